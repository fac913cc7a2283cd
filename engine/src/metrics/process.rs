//! What the system says of this process. Where it does not say (`/proc` is Linux'), 0.

use std::fs;

use super::{CPU, MAX_OPEN_FILES, MEMORY_LIMIT, OPEN_FILES, RESIDENT_MEMORY, define};

/// Bytes of a page, and ticks of a second, as Linux counts them on the machines that we are built for.
const PAGE: u64 = 4096;
const TICKS: f64 = 100.0;

/// Looks at all of it anew.
pub(super) fn update() {
    RESIDENT_MEMORY.set(resident_memory_bytes() as i64);
    MEMORY_LIMIT.set(memory_limit_bytes() as i64);
    define::show(&CPU, cpu_seconds());
    OPEN_FILES.set(fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as i64);
    MAX_OPEN_FILES.set(max_open_files() as i64);
}

/// Resident memory of this process in bytes.
pub fn resident_memory_bytes() -> u64 {
    let statm = read("/proc/self/statm");
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * PAGE
}

/// The limit of the control group (of either version), where it is less than the machine has.
fn memory_limit_bytes() -> u64 {
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.iter().filter_map(|path| read(path).trim().parse().ok());
    let info = read("/proc/meminfo");
    let machine = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let machine = machine.and_then(|total| total.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    limits.chain(machine.map(|total| total * 1024)).min().unwrap_or_default()
}

/// Processor time of this process.
pub fn cpu_seconds() -> f64 {
    let stat = read("/proc/self/stat");
    // The name of the program stands in parentheses and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / TICKS
}

fn max_open_files() -> u64 {
    let limits = read("/proc/self/limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_all_of_it() {
        let (before, begun) = (cpu_seconds(), std::time::Instant::now());
        // However much else the machine has to do.
        while cpu_seconds() < before + 0.02 {
            assert!(begun.elapsed().as_secs() < 30, "no processor time is seen to pass");
        }
        assert!((1 << 20..memory_limit_bytes()).contains(&resident_memory_bytes()));
        assert!(max_open_files() > 3);
    }
}
