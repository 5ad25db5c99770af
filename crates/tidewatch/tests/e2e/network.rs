//! Bridges that have no way out.

use crate::container::Container;
use crate::docker::{docker, docker_output};
use crate::image;
use crate::lab;

/// An internal bridge network.
pub struct Network {
    /// Its name.
    pub name: String,
}

impl Network {
    /// One with private addresses.
    pub fn private() -> Self {
        let name = lab::unique("net");
        docker(&["network", "create", "--internal", "--label", &lab::label(), &name]);
        Self { name }
    }

    /// One whose addresses are not private ones: a slice of a network kept for documentation.
    pub fn public() -> Self {
        let name = lab::unique("net");
        let label = lab::label();
        let made = (0..16).any(|slice| {
            let subnet = format!("198.51.100.{}/28", slice * 16);
            let words = ["network", "create", "--internal", "--label", &label, "--subnet", &subnet, &name];
            docker_output(&words).status.success()
        });
        assert!(made, "no slice of 198.51.100.0/24 is free");
        Self { name }
    }

    /// A container on it that accepts connections on this port, one after the other.
    pub fn listener(&self, port: &str) -> Container {
        let script = format!("while :; do nc -l -p {port} </dev/null >/dev/null; done");
        let container = Container::start(image::base(), &["--network", &self.name], &["sh", "-c", &script]);
        let listening = format!("until netstat -ltn | grep -q ':{port} '; do sleep 0.05; done");
        container.exec(&["timeout", "10", "sh", "-c", &listening]);
        container
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        docker_output(&["network", "rm", &self.name]);
    }
}
