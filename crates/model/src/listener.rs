//! Sockets that wait for whoever comes.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A socket that listens for connections, or is bound to a port for datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Id of the container; empty: on the host.
    #[serde(default)]
    pub container: String,
    /// `tcp`, `udp`, `mptcp`, `sctp`, else the number of the protocol.
    pub protocol: String,
    /// Address that it listens on; `::` and `0.0.0.0` are all.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Name of the process that began to listen; empty if unknown.
    #[serde(default)]
    pub process: String,
    /// Its number on the host; 0 if unknown.
    #[serde(default)]
    pub pid: u32,
    /// When it began, nanoseconds since the epoch; 0: before the agent looked.
    #[serde(default)]
    pub since_ns: u64,
}

/// Name of a protocol of IP that sockets listen with.
pub fn protocol_name(number: u16) -> String {
    match number {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        132 => "sctp".to_owned(),
        262 => "mptcp".to_owned(),
        other => other.to_string(),
    }
}
