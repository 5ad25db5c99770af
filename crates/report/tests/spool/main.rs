//! The spool as a whole: its properties one by one, a model of it, crashes at every byte and at every call, full disks.

#![allow(clippy::unwrap_used, reason = "a test")]

mod bench;
mod crash;
mod disk;
mod files;
mod kill;
mod model;
mod scratch;
