//! Common beginnings of requests.

use crate::request::TokenRequest;

/// Shared beginnings end after a multiple of so many tokens; what goes beyond is read once by every request. So few tokens are not
/// worth a pass of their own, and states after equally many tokens, which alone can be put into one batch, become common.
const STRIDE: usize = 8;

/// Requests in the order of their tokens, as a tree: a node is a piece of text that some of them share.
#[derive(Debug)]
pub(super) struct Trie<'a> {
    all: &'a [TokenRequest],
    /// Numbers of the requests, in the order of their inputs.
    pub(super) requests: Vec<usize>,
    pub(super) nodes: Vec<Node>,
    /// Numbers of the nodes: those without a parent, those below them, and so on.
    levels: Vec<Vec<usize>>,
}

/// A piece of text.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: Option<usize>,
    /// The requests that read it, as a range of [`Trie::requests`].
    pub(super) first: usize,
    last: usize,
    /// The tokens of their inputs.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) has_children: bool,
}

impl<'a> Trie<'a> {
    /// Tries of at most `window` requests each, cut where neighbours share little.
    pub(super) fn windows(all: &'a [TokenRequest], window: usize, sharing: bool) -> impl Iterator<Item = Self> {
        let mut order: Vec<usize> = (0..all.len()).collect();
        if sharing {
            order.sort_by(|&a, &b| all[a].input().cmp(all[b].input()));
        } else {
            order.sort_by_key(|&request| std::cmp::Reverse(all[request].input_len()));
        }
        let mut rest = order.into_iter().peekable();
        std::iter::from_fn(move || {
            rest.peek()?;
            let mut requests: Vec<usize> = Vec::new();
            while requests.len() < window
                && let Some(&next) = rest.peek()
            {
                let half_full = requests.len() >= window.div_ceil(2);
                if sharing && half_full && common(&all[requests[requests.len() - 1]], &all[next]) < STRIDE {
                    break;
                }
                requests.extend(rest.next());
            }
            Some(Self::new(all, requests, sharing))
        })
    }

    fn new(all: &'a [TokenRequest], requests: Vec<usize>, sharing: bool) -> Self {
        let count = requests.len();
        let mut trie = Self { all, requests, nodes: Vec::new(), levels: Vec::new() };
        if sharing {
            trie.build(0, count, 0, 0, None);
        } else {
            (0..count).for_each(|request| {
                let end = trie.request(request).input_len();
                trie.add(request, request + 1, 0, end, 0, None);
            });
        }
        trie
    }

    /// Adds what the requests `first..last` read from `start` on; their tokens before `from` are known to be equal.
    fn build(&mut self, first: usize, last: usize, start: usize, from: usize, parent: Option<(usize, usize)>) {
        let (a, b) = (self.request(first), self.request(last - 1));
        // They are in order, so what the outermost two share, all do.
        let end = from + a.input().skip(from).zip(b.input().skip(from)).take_while(|(a, b)| a == b).count();
        if b.input_len() == end {
            let level = parent.map_or(0, |(_, level)| level + 1);
            self.add(first, last, start, end, level, parent.map(|(id, _)| id)); // all are equal
            return;
        }
        let level_of = |parent: Option<(usize, usize)>| parent.map_or(0, |(_, level)| level + 1);
        // Requests that end here come first.
        let ending = (first..last).take_while(|&request| self.request(request).input_len() == end).count();
        let split = end - end % STRIDE;
        let (below, below_start) = if split > start {
            let id = self.add(first, last, start, split, level_of(parent), parent.map(|(id, _)| id));
            self.nodes[id].has_children = true;
            (Some((id, level_of(parent))), split)
        } else {
            (parent, start)
        };
        if ending > 0 && end > below_start {
            self.add(first, first + ending, below_start, end, level_of(below), below.map(|(id, _)| id));
        }
        let mut next = first + ending;
        while next < last {
            let token = self.request(next).input().nth(end);
            let same = (next..last).take_while(|&request| self.request(request).input().nth(end) == token).count();
            self.build(next, next + same, below_start, end, below);
            next += same;
        }
    }

    fn add(
        &mut self,
        first: usize,
        last: usize,
        start: usize,
        end: usize,
        level: usize,
        parent: Option<usize>,
    ) -> usize {
        let id = self.nodes.len();
        self.nodes.push(Node { parent, first, last, start, end, has_children: false });
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        self.levels[level].push(id);
        id
    }

    /// The request at this place of the order.
    pub(super) fn request(&self, place: usize) -> &'a TokenRequest {
        &self.all[self.requests[place]]
    }

    pub(super) fn levels(&self) -> impl Iterator<Item = &[usize]> {
        self.levels.iter().map(Vec::as_slice)
    }

    /// What is scored in the tokens `from..to` of a node's inputs: place of the request, position of the input, and the token
    /// that is to follow it.
    pub(super) fn scored(&self, node: &Node, from: usize, to: usize) -> impl Iterator<Item = (usize, usize, u32)> {
        let (from, to) = (from.max(node.start), to.min(node.end));
        (node.first..node.last).flat_map(move |place| {
            let request = self.request(place);
            let before = request.context.len() - 1;
            let positions = from.max(before)..to.min(request.input_len());
            positions.map(move |position| (place, position, request.continuation[position - before]))
        })
    }

    /// Places of the requests whose last token is in this node.
    pub(super) fn ending(&self, node: &Node) -> impl Iterator<Item = usize> {
        (node.first..node.last).filter(|&place| self.request(place).input_len() == node.end)
    }
}

/// How many tokens two requests share at their beginning.
fn common(a: &TokenRequest, b: &TokenRequest) -> usize {
    a.input().zip(b.input()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(context: &[u32], continuation: &[u32]) -> TokenRequest {
        TokenRequest { context: context.to_vec(), continuation: continuation.to_vec() }
    }

    /// Every request's tokens are read once on its way, in order, and every token of its continuation is scored once.
    fn check(all: &[TokenRequest], window: usize, sharing: bool) -> usize {
        let mut scored = vec![Vec::new(); all.len()];
        let (mut ended, mut read) = (vec![0; all.len()], 0);
        for trie in Trie::windows(all, window, sharing) {
            assert!(trie.requests.len() <= window);
            let order = trie.levels().flatten().copied().collect::<Vec<_>>();
            for (rank, &id) in order.iter().enumerate() {
                let node = &trie.nodes[id];
                read += node.end - node.start;
                match node.parent {
                    None => assert_eq!(node.start, 0),
                    Some(parent) => {
                        assert!(order[..rank].contains(&parent) && trie.nodes[parent].has_children);
                        assert_eq!(trie.nodes[parent].end, node.start);
                    }
                }
                let tokens = |place| trie.request(place).input().take(node.end).collect::<Vec<_>>();
                assert!((node.first..node.last).all(|place| tokens(place) == tokens(node.first)));
                for (place, position, target) in trie.scored(node, 0, usize::MAX) {
                    scored[trie.requests[place]].push((position, target));
                }
                trie.ending(node).for_each(|place| ended[trie.requests[place]] += 1);
            }
        }
        for ((request, mut scored), ended) in all.iter().zip(scored).zip(ended) {
            scored.sort_unstable();
            let before = request.context.len() - 1;
            let expected = request.continuation.iter().enumerate().map(|(i, &token)| (before + i, token));
            assert_eq!(scored, expected.collect::<Vec<_>>());
            assert_eq!(ended, 1);
        }
        read
    }

    #[test]
    fn choices_read_their_question_once() {
        let question: Vec<u32> = (1..=9).collect();
        let all = [request(&question, &[17]), request(&question, &[18, 19, 20]), request(&question, &[18, 19])];
        // 8 of the question; its last token, and what was written after it, by every request.
        assert_eq!(check(&all, 10, true), 8 + 1 + 3 + 2);
        assert_eq!(check(&all, 10, false), 9 + 11 + 10);
    }

    #[test]
    fn short_beginnings_are_not_shared() {
        let all = [request(&[1, 2, 3], &[4]), request(&[1, 2, 5], &[4])];
        assert_eq!(check(&all, 10, true), 6);
    }

    #[test]
    fn a_request_may_be_the_beginning_of_another() {
        for length in 1..19 {
            let long: Vec<u32> = (0..19).collect();
            let all = [request(&long[..length], &[20]), request(&long, &[21]), request(&long[..length], &[22])];
            check(&all, 10, true);
        }
    }

    #[test]
    fn every_request_is_answered_once_whatever_is_shared() {
        // Few different tokens, so that much is shared, from a small generator of its own.
        let mut seed = 1u64;
        let mut draw = |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % limit
        };
        for round in 0..200 {
            let mut all = Vec::new();
            for _ in 0..1 + round % 17 {
                let mut tokens = |most: u64| (0..1 + draw(most)).map(|_| u32::from(draw(12) == 0)).collect::<Vec<_>>();
                let (context, continuation) = (tokens(24), tokens(12));
                all.push(TokenRequest { context, continuation });
            }
            for window in [1, 3, 100] {
                let (shared, alone) = (check(&all, window, true), check(&all, window, false));
                assert!(shared <= alone);
                assert_eq!(alone, all.iter().map(TokenRequest::input_len).sum::<usize>());
            }
        }
    }
}
