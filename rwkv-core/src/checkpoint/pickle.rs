//! A reader for the one kind of pickle that `torch.save` writes for a dictionary of tensors.
//!
//! A pickle is a program for a stack machine, and a general reader lets it call any Python function by name. This one
//! knows three names and runs nothing: `torch._utils._rebuild_tensor_v2` and the storages `torch.…Storage` become plain
//! descriptions, `collections.OrderedDict` an empty dictionary; any other name ends the reading. Objects lie in one
//! list and refer to each other by index, so neither a deep nor a circular structure can exhaust the machine's stack,
//! and their number is bounded: reading takes some tens of megabytes at most, and next to nothing for a real file.
//!
//! # Source
//! Python's `pickletools` (protocol 2); `torch.serialization` and `torch._utils`.

mod code;
mod machine;

use machine::{Machine, Object};

/// Longer pickles are refused: the largest published model's has some 100 kB.
const MAX_BYTES: usize = 4 << 20;
/// More entries are refused: a model of 72 layers has 1302.
const MAX_ENTRIES: usize = 1 << 16;
/// More dimensions than any tensor here has.
const MAX_DIMENSIONS: usize = 8;

/// A tensor as the pickle describes it; its numbers lie in another member of the zip file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PickledTensor<'a> {
    /// The storage's class, without the module: `BFloat16Storage`.
    pub class: &'a str,
    /// The storage's key: the name of its member.
    pub key: &'a str,
    /// The first number's index in the storage.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A value in the dictionary.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Tensor(PickledTensor<'a>),
    /// Something else, by its Python type.
    Other(&'static str),
}

/// The entries of the pickled dictionary, in its order.
///
/// The error is the end of a sentence that begins with the file's name.
pub(super) fn entries(pickle: &[u8]) -> Result<Vec<(&str, Entry<'_>)>, String> {
    if pickle.len() > MAX_BYTES {
        return Err(format!("has a pickle of {} bytes, far more than a model's", pickle.len()));
    }
    let mut machine = Machine::default();
    let root = machine.run(pickle)?;
    let Object::Dict(items) = &machine.objects[root] else {
        let found = machine.objects[root].python_type();
        return Err(format!("holds {found} where a dictionary of tensors belongs"));
    };
    if items.len() > MAX_ENTRIES {
        return Err(format!("has {} entries, far more than a model", items.len()));
    }
    items
        .iter()
        .map(|&(key, value)| {
            let Object::Str(name) = machine.objects[key] else {
                return Err("holds a dictionary whose keys are not all names".to_owned());
            };
            // A tensor under two names is described twice.
            let entry = match &machine.objects[value] {
                Object::Tensor { class, key, offset, shape, strides } => Entry::Tensor(PickledTensor {
                    class,
                    key,
                    offset: *offset,
                    shape: shape.clone(),
                    strides: strides.clone(),
                }),
                other => Entry::Other(other.python_type()),
            };
            Ok((name, entry))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protocol 2, `body`, stop.
    fn pickle(body: &[u8]) -> Vec<u8> {
        [b"\x80\x02".as_slice(), body, b"."].concat()
    }

    fn refusal(body: &[u8]) -> String {
        entries(&pickle(body)).expect_err("must be refused")
    }

    fn text(value: &str) -> Vec<u8> {
        [b"X".as_slice(), &(value.len() as u32).to_le_bytes(), value.as_bytes()].concat()
    }

    /// A tensor `[2, 3]` on storage "7", beginning with number 5.
    fn tensor(class: &str) -> Vec<u8> {
        let global = format!("ctorch\n{class}\n");
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n((".as_slice(),
            &text("storage"),
            global.as_bytes(),
            &text("7"),
            &text("cpu"),
            b"K\x0btQK\x05K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR",
        ]
        .concat()
    }

    #[test]
    fn a_tensor_is_described_and_not_made() {
        let body = [b"}q\x00".as_slice(), &text("a"), &tensor("HalfStorage"), b"s"].concat();
        let wanted =
            PickledTensor { class: "HalfStorage", key: "7", offset: 5, shape: vec![2, 3], strides: vec![3, 1] };
        assert_eq!(entries(&pickle(&body)), Ok(vec![("a", Entry::Tensor(wanted))]));
    }

    #[test]
    fn an_ordered_dictionary_with_metadata_is_one_too() {
        // `torch.save(module.state_dict())` gives the dictionary an attribute `_metadata`.
        let empty = b"ccollections\nOrderedDict\n)R".as_slice();
        let body = [empty, b"q\x01(", &text("a"), b"K\x01u}", &text("_metadata"), empty, b"sb"].concat();
        assert_eq!(entries(&pickle(&body)), Ok(vec![("a", Entry::Other("a number"))]));
    }

    #[test]
    fn other_globals_are_refused_by_name() {
        let attack = [b"cposix\nsystem\n".as_slice(), &text("touch owned"), b"\x85R"].concat();
        assert!(refusal(&attack).contains("posix.system"), "{}", refusal(&attack));
        assert!(refusal(b"c__builtin__\neval\n").contains("__builtin__.eval"));
        assert!(refusal(b"ctorch.nn\nBFloat16Storage\n").contains("torch.nn.BFloat16Storage"));
        assert!(refusal(b"ctorch._utils\n_rebuild_parameter\n").contains("_rebuild_parameter"));
        // Control characters in a name must not reach a terminal.
        assert!(!refusal(b"cevil\x1b[2J\nname\n").contains('\u{1b}'));
    }

    #[test]
    fn what_torch_does_not_write_is_refused() {
        assert!(refusal(b"(itorch\nload\n").contains("opcode 0x69"));
        assert!(refusal(b")").contains("a tuple where a dictionary"));
        assert!(refusal(b"0").contains("opcode 0x30"));
        assert!(refusal(b"h\x07").contains("damaged"));
        assert!(refusal(b"}K\x01K\x02s").contains("keys"));
        let protocol_4 = entries(b"\x80\x04.").expect_err("refused");
        assert!(protocol_4.contains("protocol 4"), "{protocol_4}");
        for cut in 0..tensor("HalfStorage").len() {
            let body = [b"}".as_slice(), &text("a"), &tensor("HalfStorage")[..cut]].concat();
            assert!(entries(&[b"\x80\x02".as_slice(), &body].concat()).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_hundred_thousand_nested_tuples_do_not_exhaust_the_stack() {
        let body = [b")".as_slice(), &vec![0x85; 100_000]].concat();
        assert!(refusal(&body).contains("a tuple where a dictionary"));
    }

    #[test]
    fn a_pickle_that_makes_objects_without_end_is_refused() {
        for opcode in [b'N', b')', b'}', b']', b'('] {
            assert!(refusal(&vec![opcode; 1 << 20]).contains("objects"), "{}", opcode as char);
        }
    }
}
