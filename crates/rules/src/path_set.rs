//! Sets of paths for `pmatch`: does one of them hold the value?

use std::collections::HashMap;

use crate::glob;

/// A tree of path components.
#[derive(Debug, Default)]
pub(crate) struct PathSet {
    /// A path of the set ends here.
    end: bool,
    literal: HashMap<Box<[u8]>, PathSet, foldhash::fast::RandomState>,
    patterns: Vec<(Box<[u8]>, PathSet)>,
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

impl PathSet {
    /// The set of `paths`.
    pub fn new<'p>(paths: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(path);
        }
        set
    }

    fn insert(&mut self, path: &[u8]) {
        let mut node = self;
        for component in components(path) {
            node = if glob::is_pattern(component) {
                let known = node.patterns.iter().position(|(pattern, _)| **pattern == *component);
                let index = known.unwrap_or_else(|| {
                    node.patterns.push((component.into(), Self::default()));
                    node.patterns.len() - 1
                });
                &mut node.patterns[index].1
            } else {
                node.literal.entry(component.into()).or_default()
            };
        }
        node.end = true;
    }

    /// The set as text: equal sets give equal texts.
    pub fn key(&self) -> String {
        let literal = self.literal.iter().map(|(name, below)| format!("{name:?}{}", below.key()));
        let patterns = self.patterns.iter().map(|(name, below)| format!("*{name:?}{}", below.key()));
        let mut inside: Vec<String> = literal.chain(patterns).collect();
        inside.sort();
        format!("{}({})", if self.end { "!" } else { "" }, inside.join(","))
    }

    /// Whether no component is a pattern.
    pub fn is_literal(&self) -> bool {
        self.patterns.is_empty() && self.literal.values().all(Self::is_literal)
    }

    /// Tells each path in the usual form, `/a/b`; only those above all others of the set.
    pub fn each_literal(&self, tell: &mut dyn FnMut(&[u8])) {
        self.literal_below(&mut Vec::new(), tell);
    }

    fn literal_below(&self, path: &mut Vec<u8>, tell: &mut dyn FnMut(&[u8])) {
        if self.end {
            return tell(if path.is_empty() { b"/" } else { path });
        }
        for (name, below) in &self.literal {
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(name);
            below.literal_below(path, tell);
            path.truncate(length);
        }
    }

    /// Whether a path of the set is `path` or one of its parent directories.
    pub fn holds(&self, path: &[u8]) -> bool {
        self.holds_rest(components(path))
    }

    fn holds_rest<'p>(&self, mut rest: impl Iterator<Item = &'p [u8]> + Clone) -> bool {
        if self.end {
            return true;
        }
        let Some(component) = rest.next() else { return false };
        self.literal.get(component).is_some_and(|node| node.holds_rest(rest.clone()))
            || self
                .patterns
                .iter()
                .any(|(pattern, node)| glob::matches(pattern, component, false) && node.holds_rest(rest.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_compared_whole() {
        let set = |paths: &[&str]| PathSet::new(paths.iter().map(|path| path.as_bytes()));
        for (paths, path, expected) in [
            (&["/etc"][..], "/etc/x", true),
            (&["/etc"], "/etc", true),
            (&["/etc/"], "/etc", true),
            (&["/etc"], "/etcx", false),
            (&["/etc"], "/", false),
            (&["/"], "/any", true),
            (&["/a/b", "/a"], "/a/c", true),
            (&["/a/b"], "/a//b/c", true),
            (&["/home/*/.ssh"], "/home/u/.ssh/id", true),
            (&["/home/*/.ssh"], "/home/u/v/.ssh", false),
            (&["/home/u/x", "/home/*/.ssh"], "/home/u/.ssh", true),
            (&[], "/a", false),
        ] {
            assert_eq!(set(paths).holds(path.as_bytes()), expected, "{paths:?} {path}");
        }
    }
}
