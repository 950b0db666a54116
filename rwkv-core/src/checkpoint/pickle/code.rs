//! The program that the machine runs: instructions and what follows them.

use super::machine::Global;

/// The sentence for a program that cannot be one of `torch.save`'s.
pub(super) fn damaged<T>() -> Result<T, String> {
    Err("is damaged: its pickle cannot be read".to_owned())
}

/// The program, from the next instruction on.
pub(super) struct Code<'a>(pub(super) &'a [u8]);

impl<'a> Code<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let Some((taken, rest)) = self.0.split_at_checked(count) else { return damaged() };
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let Some((taken, rest)) = self.0.split_first_chunk::<N>() else { return damaged() };
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, String> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        std::str::from_utf8(self.take(length)?).or_else(|_| damaged())
    }

    /// A number of up to eight bytes; longer ones index nothing.
    pub(super) fn long(&mut self) -> Result<i64, String> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        let Some(sign) = bytes.last().map(|last| last.cast_signed() < 0) else { return Ok(0) };
        let mut wide = [if sign { 0xff } else { 0 }; 8];
        let Some(low) = wide.get_mut(..length) else { return damaged() };
        low.copy_from_slice(bytes);
        Ok(i64::from_le_bytes(wide))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let Some(length) = self.0.iter().position(|&byte| byte == b'\n') else { return damaged() };
        let line = self.take(length)?;
        self.byte()?;
        std::str::from_utf8(line).or_else(|_| damaged())
    }

    pub(super) fn global(&mut self) -> Result<Global<'a>, String> {
        match (self.line()?, self.line()?) {
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Global::RebuildTensor),
            ("collections", "OrderedDict") => Ok(Global::OrderedDict),
            ("torch", class) if class.ends_with("Storage") && class.bytes().all(|x| x.is_ascii_alphanumeric()) => {
                Ok(Global::Storage(class))
            }
            (module, name) => Err(format!(
                "asks for {}.{}, which is nothing that a file of tensors needs: such a file can run any program when \
                 Python opens it",
                module.escape_debug(),
                name.escape_debug()
            )),
        }
    }
}
