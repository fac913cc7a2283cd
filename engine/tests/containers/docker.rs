//! Docker by its own command: images, a network, and containers that end with the test.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that is waited for takes longer, even on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(120);

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Past the harness, which keeps to itself what a test prints that passes.
pub fn loudly(line: &str) {
    let mut past_the_harness = std::io::stderr();
    writeln!(past_the_harness, "{line}").unwrap();
}

/// What the command printed; or what it said when it failed.
pub fn docker(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(arguments).env("DOCKER_BUILDKIT", "1").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("docker: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("docker {}: {}{}", arguments[0], text(&output.stdout), text(&output.stderr))),
    }
}

/// What the containers are made of.
pub struct Images {
    pub velib: String,
    pub postgres: String,
}

impl Images {
    /// Builds the image as the Dockerfile says, around the program that cargo has built for the tests.
    ///
    /// None where there is no Docker engine, or it cannot have the images that ours stands on: says so loudly, and
    /// is a failure where `VELIB_TEST_CONTAINERS=required`.
    pub fn build() -> Option<Images> {
        match Self::stand_on() {
            Ok((runtime, postgres)) => Some(Images { velib: velib(&runtime), postgres }),
            Err(reason) => {
                let required = std::env::var("VELIB_TEST_CONTAINERS").is_ok_and(|value| value == "required");
                assert!(!required, "the test of containers is required: {reason}");
                loudly(&format!("SKIPPED: the test of containers, for want of a Docker engine ({reason})"));
                None
            }
        }
    }

    fn stand_on() -> Result<(String, String), String> {
        docker(&["ps", "--quiet"])?;
        let image = |variable: &str, default: &str| {
            let image = std::env::var(variable).unwrap_or_else(|_| default.to_string());
            docker(&["image", "inspect", &image]).or_else(|_| docker(&["pull", &image])).map(|_| image)
        };
        let runtime = image("VELIB_TEST_RUNTIME_IMAGE", "debian:bookworm-slim")?;
        Ok((runtime, image("VELIB_TEST_POSTGRES_IMAGE", "postgres:17.5-bookworm")?))
    }
}

fn velib(runtime: &str) -> String {
    let (root, folder) = (root(), tempfile::tempdir().unwrap());
    let (program, archive) = (folder.path().join("velib"), folder.path().join("velib.tar"));
    std::fs::copy(env!("CARGO_BIN_EXE_velib"), &program).unwrap();
    // A program of the dev profile is large; without `strip` it stays so.
    let _ = Command::new("strip").arg(&program).status();
    let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    tar.append_path_with_name(&program, "velib").unwrap();
    tar.into_inner().unwrap();
    let binary = docker(&["import", archive.to_str().unwrap(), "velib-test/binary"]).unwrap();
    assert!(binary.starts_with("sha256:"), "{binary}");
    let dockerfile = root.join("deploy/docker/Dockerfile");
    let arguments = [format!("RUNTIME_IMAGE={runtime}"), "BINARY=velib-test/binary".to_string()];
    let mut build = vec!["build", "--tag", "velib-test/velib", "--file", dockerfile.to_str().unwrap()];
    build.extend(arguments.iter().flat_map(|argument| ["--build-arg", argument.as_str()]));
    build.push(root.to_str().unwrap());
    docker(&build).unwrap_or_else(|error| panic!("{error}"));
    "velib-test/velib".to_string()
}

/// A network that leads nowhere else.
pub struct Network(pub String);

impl Network {
    pub fn create() -> Network {
        let name = format!("velib-test-{}", std::process::id());
        docker(&["network", "create", "--internal", &name]).unwrap();
        Network(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // It may be gone with the engine.
        let _ = docker(&["network", "rm", &self.0]);
    }
}

/// A container; removed when dropped.
pub struct Container {
    name: String,
}

impl Container {
    /// Runs `image` as `host` of the network, under these names, with more of `docker run`'s options.
    pub fn run(network: &Network, host: &str, alias: &str, options: &[&str], image: &[&str]) -> Container {
        let name = format!("{}-{host}", network.0);
        let mut arguments = vec!["run", "--detach", "--name", &name, "--hostname", host];
        arguments.extend(["--network", &network.0, "--network-alias", alias]);
        arguments.extend(options);
        arguments.extend(image);
        docker(&arguments).unwrap();
        Container { name }
    }

    pub fn command(&self, command: &str) {
        docker(&[command, &self.name]).unwrap();
    }

    /// What a command prints that runs inside of it.
    pub fn exec(&self, command: &[&str]) -> Result<String, String> {
        docker(&[&["exec", self.name.as_str()][..], command].concat())
    }

    /// A property of it.
    pub fn inspect(&self, format: &str) -> String {
        docker(&["inspect", "--format", format, &self.name]).unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = Command::new("docker").args(["logs", "--tail", "40", &self.name]).output().unwrap();
            let text = [output.stdout, output.stderr].concat();
            eprintln!("--- {} said\n{}---", self.name, String::from_utf8_lossy(&text));
        }
        // It may be gone with the engine.
        let _ = docker(&["rm", "--force", "--volumes", &self.name]);
    }
}

/// Waits for `probe` to succeed; its last error says what there was instead.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match probe() {
            Ok(found) => return found,
            Err(instead) if begun.elapsed() > LIMIT => panic!("no {what} within {LIMIT:?}: {instead}"),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}
