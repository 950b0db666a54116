//! The stack machine.

use super::MAX_DIMENSIONS;
use super::code::{Code, damaged};
use std::collections::HashMap;

/// An object's index in [`Machine::objects`].
pub(super) type Id = usize;

/// What the pickle can make.
#[derive(Debug)]
pub(super) enum Object<'a> {
    None,
    Bool,
    Int(i64),
    Float,
    Str(&'a str),
    Tuple(Vec<Id>),
    List,
    Dict(Vec<(Id, Id)>),
    Global(Global<'a>),
    Storage { class: &'a str, key: &'a str },
    Tensor { class: &'a str, key: &'a str, offset: usize, shape: Vec<usize>, strides: Vec<usize> },
}

/// The names that a pickle may use.
#[derive(Debug, Clone, Copy)]
pub(super) enum Global<'a> {
    RebuildTensor,
    OrderedDict,
    /// A class of storages. Those of formats that no RWKV-4 has are refused later, with the tensor's name.
    Storage(&'a str),
}

impl Object<'_> {
    /// The type, as a person would say it.
    pub(super) fn python_type(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool => "a truth value",
            Self::Int(_) | Self::Float => "a number",
            Self::Str(_) => "a string",
            Self::Tuple(_) => "a tuple",
            Self::List => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a class",
            Self::Storage { .. } => "a storage",
            Self::Tensor { .. } => "a tensor",
        }
    }
}

/// The stack, its marks and the memo, all of indices into one list of objects.
#[derive(Debug, Default)]
pub(super) struct Machine<'a> {
    pub(super) objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

/// More objects are refused: a tensor takes some thirty, and a model of 72 layers has 1302 tensors.
const MAX_OBJECTS: usize = 1 << 17;

impl<'a> Machine<'a> {
    /// Runs the program to its end and returns what it leaves.
    pub(super) fn run(&mut self, pickle: &'a [u8]) -> Result<Id, String> {
        let mut code = Code(pickle);
        loop {
            // Empty objects cost a byte each in the file and a hundred here.
            if self.objects.len().max(self.stack.len()).max(self.marks.len()) > MAX_OBJECTS {
                return Err(format!("has a pickle of more than {MAX_OBJECTS} objects; no model needs so many"));
            }
            match code.byte()? {
                0x80 => match code.byte()? {
                    2 => {}
                    version => return Err(format!("has a pickle of protocol {version}; torch.save writes protocol 2")),
                },
                b'.' => return self.pop(),
                b'N' => self.push(Object::None),
                0x88 | 0x89 => self.push(Object::Bool),
                b'K' => {
                    let value = code.byte()?;
                    self.push(Object::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(code.array()?);
                    self.push(Object::Int(value.into()));
                }
                b'J' => {
                    let value = i32::from_le_bytes(code.array()?);
                    self.push(Object::Int(value.into()));
                }
                0x8a => {
                    let value = code.long()?;
                    self.push(Object::Int(value));
                }
                b'G' => {
                    code.array::<8>()?;
                    self.push(Object::Float);
                }
                b'X' => {
                    let text = code.text()?;
                    self.push(Object::Str(text));
                }
                b'c' => {
                    let global = code.global()?;
                    self.push(Object::Global(global));
                }
                b'}' => self.push(Object::Dict(Vec::new())),
                b']' => self.push(Object::List),
                b')' => self.push(Object::Tuple(Vec::new())),
                size @ 0x85..=0x87 => {
                    let items = self.pop_many(usize::from(size) - 0x84)?;
                    self.push(Object::Tuple(items));
                }
                b'(' => self.marks.push(self.stack.len()),
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Object::Tuple(items));
                }
                b's' => {
                    let items = self.pop_many(2)?;
                    self.set_items(&items)?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set_items(&items)?;
                }
                // Lists occur only where their contents do not matter.
                b'a' => drop(self.pop()?),
                b'e' => drop(self.pop_to_mark()?),
                b'q' => {
                    let slot = code.byte()?;
                    self.remember(slot.into())?;
                }
                b'r' => {
                    let slot = u32::from_le_bytes(code.array()?);
                    self.remember(slot)?;
                }
                b'h' => {
                    let slot = code.byte()?;
                    self.recall(slot.into())?;
                }
                b'j' => {
                    let slot = u32::from_le_bytes(code.array()?);
                    self.recall(slot)?;
                }
                b'Q' => self.persistent()?,
                b'R' => self.call()?,
                // Attributes of the dictionary; `torch` keeps the modules' versions there.
                b'b' => {
                    self.pop()?;
                    let object = self.top()?;
                    if !matches!(self.objects[object], Object::Dict(_)) {
                        return damaged();
                    }
                }
                opcode => {
                    return Err(format!("has the opcode {opcode:#04x} in its pickle, which torch.save has no use for"));
                }
            }
        }
    }

    fn push(&mut self, object: Object<'a>) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().map_or_else(damaged, Ok)
    }

    /// The lowest stack position that may be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, String> {
        if self.stack.len() <= self.floor() {
            return damaged();
        }
        self.stack.pop().map_or_else(damaged, Ok)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= self.floor() => Ok(self.stack.split_off(start)),
            _ => damaged(),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => damaged(),
        }
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let dict = self.top()?;
        match &mut self.objects[dict] {
            Object::Dict(entries) if items.len().is_multiple_of(2) => {
                entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            _ => damaged(),
        }
    }

    fn remember(&mut self, slot: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        match self.memo.get(&slot) {
            Some(&id) => self.stack.push(id),
            None => return damaged(),
        }
        Ok(())
    }

    /// `("storage", class, key, location, length)` stands for numbers outside the pickle.
    fn persistent(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let Object::Tuple(parts) = &self.objects[id] else { return damaged() };
        let &[kind, class, key, _location, _length] = parts.as_slice() else { return damaged() };
        let (Object::Str("storage"), &Object::Global(Global::Storage(class)), &Object::Str(key)) =
            (&self.objects[kind], &self.objects[class], &self.objects[key])
        else {
            return damaged();
        };
        self.push(Object::Storage { class, key });
        Ok(())
    }

    /// Stands in for the call of a function.
    fn call(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Object::Global(function), Object::Tuple(arguments)) = (&self.objects[function], &self.objects[arguments])
        else {
            return damaged();
        };
        let object = match (function, arguments.as_slice()) {
            (Global::OrderedDict, []) => Object::Dict(Vec::new()),
            // (storage, offset, shape, strides, requires_grad, hooks[, metadata])
            (
                Global::RebuildTensor,
                &[storage, offset, shape, strides, _, _] | &[storage, offset, shape, strides, _, _, _],
            ) => {
                let (&Object::Storage { class, key }, &Object::Int(offset)) =
                    (&self.objects[storage], &self.objects[offset])
                else {
                    return damaged();
                };
                let Ok(offset) = usize::try_from(offset) else { return damaged() };
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                Object::Tensor { class, key, offset, shape, strides }
            }
            _ => return damaged(),
        };
        self.push(object);
        Ok(())
    }

    /// A tuple of sizes.
    fn sizes(&self, tuple: Id) -> Result<Vec<usize>, String> {
        let Object::Tuple(items) = &self.objects[tuple] else { return damaged() };
        if items.len() > MAX_DIMENSIONS {
            return damaged();
        }
        let size = |&item: &Id| match self.objects[item] {
            Object::Int(value) => usize::try_from(value).ok(),
            _ => None,
        };
        items.iter().map(size).collect::<Option<_>>().map_or_else(damaged, Ok)
    }
}
