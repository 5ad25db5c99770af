//! Containers that go away with the value that stands for them.

use std::process::Output;

use crate::docker::{docker, docker_output};
use crate::lab;

/// A running container of a unique name.
pub struct Container {
    /// Its name.
    pub name: String,
}

impl Container {
    /// Starts one: `docker run OPTIONS IMAGE COMMAND`, on no network unless an option names one.
    pub fn start(image: &str, options: &[&str], command: &[&str]) -> Self {
        let container = Self { name: lab::unique("box") };
        let label = lab::label();
        let mut words = vec!["run", "-d", "--pull=never", "--label", &label, "--name", &container.name];
        if !options.contains(&"--network") {
            words.extend(["--network", "none"]);
        }
        words.extend(options);
        words.push(image);
        words.extend(command);
        docker(&words);
        container
    }

    /// One that does nothing, for `exec`.
    pub fn idle(image: &str, options: &[&str]) -> Self {
        Self::start(image, options, &["sleep", "3600"])
    }

    /// Runs a program in it. How that ends is the caller's business; it is printed, for the reader of a failed test.
    pub fn exec(&self, command: &[&str]) -> Output {
        let mut words = vec!["exec", self.name.as_str()];
        words.extend(command);
        let output = docker_output(&words);
        eprintln!("{words:?}: {}, {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        output
    }

    /// Its address on its only network.
    pub fn address(&self) -> String {
        docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &self.name])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        docker_output(&["rm", "-f", &self.name]);
    }
}
