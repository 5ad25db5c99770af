//! Who is behind a process: the person who logged in to the host, and how they came to it; and whether the process was
//! brought into its container from outside.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How somebody came to a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Logged in over SSH.
    Ssh,
    /// Logged in at a terminal of the machine.
    Console,
    /// Called `sudo`, `su`, `doas` or `pkexec`; where they had logged in was not seen.
    Sudo,
    /// Brought it into a container; where they had logged in was not seen.
    #[default]
    Exec,
}

impl Source {
    /// Its name in `login.source`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Console => "console",
            Self::Sudo => "sudo",
            Self::Exec => "exec",
        }
    }
}

/// A program that was started in a running container from outside: `docker exec` and its like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerExec {
    /// The runtime's id of it; empty if it gave none, or that was not seen.
    pub id: String,
    /// The command as it was started, words joined by blanks.
    pub command: String,
    /// Command line of the client on the host, such as `docker exec web sh`; empty if it was not found.
    pub client: String,
}

/// Who is behind a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Login {
    /// How they came.
    pub source: Source,
    /// Name of the user who logged in, on the host; empty if it is not known.
    pub user: String,
    /// Where they came from, for SSH.
    pub address: Option<IpAddr>,
    /// Who called `sudo`, `su`, `doas` or `pkexec` since, last; empty: nobody did.
    pub sudo_user: String,
    /// Set if the process, or one that it descends from, was brought into its container from outside.
    pub exec: Option<ContainerExec>,
}

impl Login {
    /// For people: `anna over ssh from 10.0.0.7, sudo, docker exec`.
    pub fn words(&self) -> String {
        let mut words: Vec<Cow<'_, str>> = Vec::new();
        if !self.user.is_empty() {
            words.push(match (self.source, self.address) {
                (Source::Ssh, Some(address)) => format!("{} over ssh from {address}", self.user).into(),
                (Source::Ssh, None) => format!("{} over ssh", self.user).into(),
                (Source::Console, _) => format!("{} at the console", self.user).into(),
                (Source::Sudo | Source::Exec, _) => self.user.as_str().into(),
            });
        }
        if !self.sudo_user.is_empty() {
            words.push(if self.sudo_user == self.user {
                "sudo".into()
            } else {
                format!("sudo by {}", self.sudo_user).into()
            });
        }
        if let Some(exec) = &self.exec {
            let client = exec.client.split_whitespace().next().unwrap_or_default();
            let client = client.rsplit('/').next().unwrap_or_default();
            words.push(match (client.is_empty(), self.user.is_empty()) {
                (false, _) => format!("{client} exec").into(),
                (true, false) => "exec into the container".into(),
                (true, true) => "exec into the container, caller not seen".into(),
            });
        }
        words.join(", ")
    }
}

/// A process whose children are the sessions of people: what it starts next is somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// A server of SSH, and the peer of the connection that it took last.
    Ssh {
        /// Address of the peer, from the kernel; none if the connection was not seen.
        peer: Option<IpAddr>,
    },
    /// A login at a terminal.
    Console,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_who_it_was() {
        let anna = Login {
            source: Source::Ssh,
            user: "anna".into(),
            address: Some([10, 0, 0, 7].into()),
            sudo_user: "anna".into(),
            exec: Some(ContainerExec { client: "/usr/bin/docker exec web id".into(), ..ContainerExec::default() }),
        };
        assert_eq!(anna.words(), "anna over ssh from 10.0.0.7, sudo, docker exec");
        let nobody = Login { exec: Some(ContainerExec::default()), ..Login::default() };
        assert_eq!(nobody.words(), "exec into the container, caller not seen");
        let bob = Login { source: Source::Sudo, user: "bob".into(), sudo_user: "eve".into(), ..Login::default() };
        assert_eq!(bob.words(), "bob, sudo by eve");
    }
}
