//! The longest token at the beginning of a text.

use crate::tokenizer::token_bytes::TokenBytes;
use std::ops::Range;

/// No token ends at a node: the id that is never encoded.
const NONE: u32 = 0;

/// A byte trie in three flat arrays. Nodes are numbered by depth, so the children of one are neighbours, in the order
/// of their bytes: some nine bytes a node, and no pointers.
#[derive(Debug, Clone)]
pub(super) struct Trie {
    /// The children of node `n` are `first_child[n]..first_child[n + 1]`.
    first_child: Vec<u32>,
    /// The byte that leads to a node.
    bytes: Vec<u8>,
    /// The token that ends at a node, or [`NONE`].
    tokens: Vec<u32>,
    /// The root's children, which every match begins with, by their byte.
    roots: Vec<u32>,
}

impl Trie {
    /// A trie of all tokens but id 0, none of them empty. Two ids with the same bytes are the error.
    pub(super) fn build(tokens: &TokenBytes) -> Result<Self, (u32, u32)> {
        let mut sorted: Vec<(&[u8], u32)> =
            (1..tokens.len() as u32).filter_map(|id| Some((tokens.get(id)?, id))).collect();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err((pair[0].1, pair[1].1));
        }
        let mut trie = Self { first_child: Vec::new(), bytes: vec![0], tokens: vec![NONE], roots: vec![0; 256] };
        // Node by node: which of the sorted tokens pass through it, and how many of their bytes led there.
        let mut through: Vec<(Range<usize>, usize)> = vec![(0..sorted.len(), 0)];
        let mut node = 0;
        while let Some((mut range, depth)) = through.get(node).cloned() {
            trie.first_child.push(through.len() as u32);
            if let Some(&(bytes, id)) = sorted[range.clone()].first()
                && bytes.len() == depth
            {
                trie.tokens[node] = id; // a token sorts before those that it begins
                range.start += 1;
            }
            while !range.is_empty() {
                let byte = sorted[range.start].0[depth];
                let count = sorted[range.clone()].partition_point(|(bytes, _)| bytes[depth] == byte);
                let end = range.start + count;
                if depth == 0 {
                    trie.roots[usize::from(byte)] = through.len() as u32;
                }
                trie.bytes.push(byte);
                trie.tokens.push(NONE);
                through.push((range.start..end, depth + 1));
                range.start = end;
            }
            node += 1;
        }
        trie.first_child.push(through.len() as u32);
        Ok(trie)
    }

    /// A byte that is no token of its own.
    pub(super) fn missing_byte(&self) -> Option<u8> {
        (0..=255).find(|&byte| self.longest(&[byte]).is_none())
    }

    /// The longest token that `text` begins with, and its length. `None` for an empty text, or where no token begins so.
    pub(super) fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        let mut node = match self.roots[usize::from(*text.first()?)] {
            0 => return None, // the root is no child
            node => node as usize,
        };
        let mut found = None;
        for length in 1.. {
            if self.tokens[node] != NONE {
                found = Some((self.tokens[node], length));
            }
            let Some(next) = text.get(length).and_then(|&byte| self.child(node, byte)) else { break };
            node = next;
        }
        found
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let first = self.first_child[node] as usize;
        let children = &self.bytes[first..self.first_child[node + 1] as usize];
        let place = if children.len() <= 8 {
            children.iter().position(|&child| child == byte)
        } else {
            children.binary_search(&byte).ok()
        };
        place.map(|place| first + place)
    }
}
