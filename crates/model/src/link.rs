//! What agent and manager say to each other over the local socket: one JSON object a line, in both directions.
//!
//! The manager connects. Both say hello; the manager's has the numbers up to which its store has everything. Then the
//! agent sends what is newer, oldest first, and the manager acknowledges what it committed. The agent forgets only what
//! was acknowledged, so that a broken line at worst means that something is sent twice; a finding's id makes that
//! harmless.

use serde::{Deserialize, Serialize};

use crate::container::{Container, Pod};
use crate::finding::Finding;
use crate::listener::Listener;
use crate::status::{AgentStatus, Node, Problem, SpoolLane};

/// Version of this protocol. Either side ends the connection if the other's differs.
pub const PROTOCOL: u32 = 1;
/// Longest line of an agent in bytes; a longer one ends the connection.
pub const MAX_LINE: usize = 16 << 20;
/// Longest line of a manager in bytes: it has little to say.
pub const MAX_MANAGER_LINE: usize = 64 << 10;

/// A finding with its place in the spool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spooled {
    /// Lane.
    pub lane: SpoolLane,
    /// Number in that lane: 1, 2, 3 … A gap is a loss that the agent has counted.
    pub seq: u64,
    /// The finding.
    pub finding: Finding,
}

/// How far something was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Lane.
    pub lane: SpoolLane,
    /// Number up to which everything was committed.
    pub seq: u64,
}

/// From the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// The first line.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Version of the program.
        version: String,
        /// Who it is.
        node: Node,
    },
    /// Findings, in the order of their numbers per lane.
    Findings {
        /// The findings.
        findings: Vec<Spooled>,
    },
    /// The agent's state; every second or two.
    Status {
        /// The state.
        status: Box<AgentStatus>,
    },
    /// All containers that are known; after hello and after each change. In as many parts as it takes.
    Containers {
        /// The containers of this part.
        containers: Vec<Container>,
        /// Whether another part follows. Only with the last one the list is whole.
        #[serde(default)]
        more: bool,
    },
    /// All sockets that listen; after hello and after changes, once a second at most.
    Listeners {
        /// The sockets, those of the host first.
        listeners: Vec<Listener>,
    },
    /// Answer to a call.
    Answer {
        /// Number of the call.
        id: u64,
        /// What came of it: for `Reload` a sentence.
        result: Result<String, String>,
    },
}

/// From the manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromManager {
    /// The first line.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Up to where the store has everything of this node; asked for after the agent's hello.
        cursors: Vec<Cursor>,
    },
    /// Everything up to here is committed.
    Ack {
        /// How far.
        cursor: Cursor,
    },
    /// A request.
    Call {
        /// Its number.
        id: u64,
        /// What is asked.
        call: Call,
    },
    /// Pods, where the manager watches them: after the hellos, and when they change.
    Pods(PodNews),
}

/// What the API of Kubernetes says of the pods of this node. A list takes as many parts as it needs: no line is longer
/// than [`MAX_MANAGER_LINE`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodNews {
    /// Whether this begins a whole list: what was told before is to be forgotten.
    pub anew: bool,
    /// Pods that are new or changed.
    pub pods: Vec<Pod>,
    /// Uids of those that are gone.
    pub gone: Vec<String>,
}

/// What a manager may ask of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum Call {
    /// Read configuration and rules again.
    Reload,
}

/// What the supervisor knows of one of its processes; written to `supervisor.json` in the run directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChildStatus {
    /// `agent` or `manager`.
    pub name: String,
    /// Process number; 0 while it does not run.
    pub pid: u32,
    /// How often it was started again.
    pub restarts: u64,
    /// How it ended the last time; empty if it never did.
    pub last_end: String,
    /// When it is started next, nanoseconds since the epoch; 0 if it runs.
    pub next_start_ns: u64,
}

/// The supervisor's word on both processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SupervisorStatus {
    /// Its process number.
    pub pid: u32,
    /// Its processes.
    pub children: Vec<ChildStatus>,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_wire() {
        let ack = FromManager::Ack { cursor: Cursor { lane: SpoolLane::Routine, seq: 9 } };
        let text = serde_json::to_string(&ack).unwrap();
        assert_eq!(text, r#"{"type":"ack","cursor":{"lane":"routine","seq":9}}"#);
        assert_eq!(serde_json::from_str::<FromManager>(&text).unwrap(), ack);
        let text =
            r#"{"type":"pods","anew":true,"pods":[{"uid":"u-1","owners":[{"kind":"job","name":"j"}]}],"more":1}"#;
        let FromManager::Pods(news) = serde_json::from_str(text).unwrap() else { panic!() };
        assert_eq!((news.anew, &*news.pods[0].uid, &*news.pods[0].owners[0].name), (true, "u-1", "j"));
        let answer = FromAgent::Answer { id: 1, result: Err("no".into()) };
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(serde_json::from_str::<FromAgent>(&text).unwrap(), answer);
        let whole = FromAgent::Containers { containers: Vec::new(), more: false };
        assert_eq!(serde_json::from_str::<FromAgent>(r#"{"type":"containers","containers":[]}"#).unwrap(), whole);
    }
}
