//! End-to-end tests: the real binary with its real sensor, watching real containers.
//!
//! They need root, a kernel that admits eBPF, Docker Engine, a C compiler and `busybox-static`; where one is missing
//! they say so and pass, unless `TIDEWATCH_REQUIRE_E2E=1` makes that a failure. No image is pulled: each is a busybox
//! imported from this host. Containers sit on no network, or on bridges that have no way out.
//!
//! Every test acts in containers of its own name and waits for alerts of that name, so that they may run side by side
//! and share one agent per set of rules.

#![allow(clippy::unwrap_used, reason = "a test")]

mod container;
mod containerd;
mod cri;
mod daemon;
mod docker;
mod drill;
mod endurance;
mod identity;
mod image;
mod kubernetes;
mod lab;
mod ledger;
mod listeners;
mod memory;
mod modes;
mod names;
mod network;
mod own_rules;
mod quiet;
mod record;
mod reload;
mod robustness;
mod runtimes;
mod service;
mod stock_rules;
mod stories;
mod usage;
mod who;
