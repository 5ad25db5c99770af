//! Docker's command line.

use std::process::{Command, Output};

/// Runs `docker ARGUMENTS` and returns what it printed; panics with its complaint if it fails.
pub fn docker<S: AsRef<str>>(arguments: &[S]) -> String {
    let output = docker_output(arguments);
    let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    assert!(output.status.success(), "docker {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The same, whatever comes of it.
pub fn docker_output<S: AsRef<str>>(arguments: &[S]) -> Output {
    Command::new("docker").args(arguments.iter().map(AsRef::as_ref)).output().expect("docker is there")
}
