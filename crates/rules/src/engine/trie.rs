//! Prefixes of texts, all looked up in one walk.

/// A tree of bytes; where a prefix ends there are numbers. Bytes behind which nothing ends or branches are one step.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Branch>,
}

#[derive(Debug, Default)]
struct Branch {
    /// Bytes that must follow the one that leads here.
    label: Box<[u8]>,
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
        let prefix: Vec<u8> = prefix.collect();
        let (mut at, mut left) = (0, prefix.as_slice());
        while let [byte, rest @ ..] = left {
            let new = self.nodes.len() as u32;
            at = match self.nodes[at].next.binary_search_by_key(byte, |(byte, _)| *byte) {
                Err(place) => {
                    self.nodes[at].next.insert(place, (*byte, new));
                    self.nodes.push(Branch { label: rest.into(), ..Branch::default() });
                    left = &[];
                    new as usize
                }
                Ok(place) => {
                    let at = self.nodes[at].next[place].1 as usize;
                    let node = &mut self.nodes[at];
                    let same = node.label.iter().zip(rest).take_while(|(a, b)| a == b).count();
                    if let [byte, behind @ ..] = &node.label[same..] {
                        // The step is taken in two.
                        let (byte, behind) = (*byte, behind.into());
                        let label = node.label[..same].into();
                        let first = Branch { label, next: vec![(byte, new)], ends: Vec::new() };
                        let second = std::mem::replace(node, first);
                        self.nodes.push(Branch { label: behind, ..second });
                    }
                    left = &rest[same..];
                    at
                }
            };
        }
        self.nodes[at].ends.push(number);
    }

    /// Tells the numbers of all prefixes of `text`, each with its length.
    pub fn prefixes(&self, mut text: impl Iterator<Item = u8>, tell: &mut impl FnMut(u16, usize)) {
        let Some(mut node) = self.nodes.first() else { return };
        let mut length = 0;
        loop {
            node.ends.iter().for_each(|number| tell(*number, length));
            let next = match node.next.as_slice() {
                [] => return,
                next => next,
            };
            let Some(byte) = text.next() else { return };
            let found = match next {
                [(only, next)] => (*only == byte).then_some(*next),
                many => many.binary_search_by_key(&byte, |(byte, _)| *byte).ok().map(|place| many[place].1),
            };
            let Some(next) = found.and_then(|next| self.nodes.get(next as usize)) else { return };
            if !next.label.iter().all(|byte| text.next() == Some(*byte)) {
                return;
            }
            length += 1 + next.label.len();
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

    proptest::proptest! {
        /// Short words over few letters, so that prefixes branch, end in each other and are there twice.
        #[test]
        fn what_is_told_is_what_the_text_begins_with(
            prefixes in proptest::collection::vec("[ab]{0,5}", 0..12),
            text in "[ab]{0,7}",
        ) {
            let mut trie = Trie::new();
            for (number, prefix) in (0..).zip(&prefixes) {
                trie.insert(prefix.bytes(), number);
            }
            let mut told = Vec::new();
            trie.prefixes(text.bytes(), &mut |number, length| told.push((number, length)));
            told.sort_unstable();
            let of_text = (0_u16..).zip(&prefixes).filter(|(_, prefix)| text.starts_with(prefix.as_str()));
            proptest::prop_assert_eq!(told, of_text.map(|(number, prefix)| (number, prefix.len())).collect::<Vec<_>>());
            proptest::prop_assert_eq!(trie.is_empty(), prefixes.is_empty());
        }
    }
}
