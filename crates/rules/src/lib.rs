//! The Falco rule language: YAML to checked, compiled conditions, evaluated over events.
//!
//! [`Loader`] reads rule files into a [`RuleSet`] and a list of [`Diagnostic`]s; [`RuleSet::inspect`] tells
//! which rules an event matches; [`Rule::message`] and [`Rule::fields`] say what to show.
//!
//! **Never:** input or output, a clock, a thread, or unsafe code; a panic on any input.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod ast;
mod compile;
pub mod diagnostic;
mod engine;
pub mod explain;
mod extract;
mod glob;
pub mod layout;
mod lexer;
mod loader;
pub mod mention;
mod node;
mod output;
pub mod parser;
mod path_set;
mod predicate;
pub mod reach;
mod ruleset;
mod sense;
pub mod suite;
mod text;
pub mod yaml;

#[cfg(test)]
mod testing;

pub use diagnostic::{Diagnostic, Severity};
pub use engine::Engine;
pub use loader::{Compat, ENGINE_VERSION, ExtraField, Loader, OutputAddition, Selection};
pub use ruleset::{Matching, NamedList, NamedMacro, Rule, RuleSet};
pub use text::Text;
