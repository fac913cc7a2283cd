//! What the figures were measured on.

use std::path::PathBuf;
use std::process::Command;

/// One line: commit, processor, cores, load.
pub fn describe() -> String {
    let commit = output("git", &["describe", "--always", "--dirty"]);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1).map(str::to_owned));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("?").to_owned();
    format!("commit {commit}; {} × {cores}; load {load}", cpu.unwrap_or_else(|| "unknown processor".into()))
}

/// The engine's binary, built by the same profile as this one.
pub fn velib() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let velib = here.with_file_name("velib");
    anyhow::ensure!(velib.exists(), "there is no {}; build it first: cargo build --release", velib.display());
    Ok(velib)
}

/// CPU seconds and peak resident megabytes of a process so far.
pub fn usage(pid: u32) -> (f64, f64) {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let stat = read("stat");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
    let status = read("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
    (ticks / 100.0, peak.unwrap_or(0.0) / 1024.0)
}

/// The value at `share` of the sorted `values`.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * share).round() as usize).copied().unwrap_or(f64::NAN)
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}
