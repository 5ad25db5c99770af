//! Prefixes of texts, all looked up in one walk.

/// A tree of bytes; where a prefix ends there are numbers.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Branch>,
}

#[derive(Debug, Default)]
struct Branch {
    /// Next bytes, sorted, with the place of what follows.
    next: Vec<(u8, u32)>,
    /// Numbers of the prefixes that end here.
    ends: Vec<u16>,
}

impl Trie {
    pub fn new() -> Self {
        Self { nodes: vec![Branch::default()] }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 1 && self.nodes.iter().all(|node| node.ends.is_empty())
    }

    /// Adds a prefix with its number.
    pub fn insert(&mut self, prefix: impl Iterator<Item = u8>, number: u16) {
        let mut at = 0;
        for byte in prefix {
            let next = self.nodes.len() as u32;
            at = match self.nodes[at].next.binary_search_by_key(&byte, |(byte, _)| *byte) {
                Ok(place) => self.nodes[at].next[place].1 as usize,
                Err(place) => {
                    self.nodes[at].next.insert(place, (byte, next));
                    self.nodes.push(Branch::default());
                    next as usize
                }
            };
        }
        self.nodes[at].ends.push(number);
    }

    /// Tells the numbers of all prefixes of `text`, each with its length.
    pub fn prefixes(&self, text: impl Iterator<Item = u8>, tell: &mut impl FnMut(u16, usize)) {
        let Some(mut node) = self.nodes.first() else { return };
        node.ends.iter().for_each(|number| tell(*number, 0));
        for (before, byte) in text.enumerate() {
            let found = match node.next.as_slice() {
                [] => return,
                [(only, next)] => (*only == byte).then_some(*next),
                many => many.binary_search_by_key(&byte, |(byte, _)| *byte).ok().map(|place| many[place].1),
            };
            let Some(next) = found.and_then(|next| self.nodes.get(next as usize)) else { return };
            next.ends.iter().for_each(|number| tell(*number, before + 1));
            node = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_prefixes_are_told() {
        let mut trie = Trie::new();
        assert!(trie.is_empty());
        for (number, prefix) in [(1, "/etc"), (2, "/etc/ssh"), (3, "/"), (4, ""), (5, "/etc"), (6, "/opt")] {
            trie.insert(prefix.bytes(), number);
        }
        let told = |text: &str| {
            let mut numbers = Vec::new();
            trie.prefixes(text.bytes(), &mut |number, length| {
                assert!(length <= text.len());
                numbers.push(number);
            });
            numbers.sort_unstable();
            numbers
        };
        assert!(!trie.is_empty());
        assert_eq!(told("/etc/ssh/sshd_config"), [1, 2, 3, 4, 5]);
        assert_eq!(told("/etcx"), [1, 3, 4, 5]);
        assert_eq!(told("/et"), [3, 4]);
        assert_eq!(told(""), [4]);
        assert_eq!(told("x"), [4]);
    }
}
