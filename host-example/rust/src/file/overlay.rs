//! A file that is only read, under a storage that can be written to: what is written stays in memory.
//!
//! redb's own way to open a file for reading refuses one whose last process was killed, and checks no
//! pages. Over this it repairs and checks as ever, and the file stays as it is.

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend, StorageError};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

const BLOCK_BYTES: u64 = 4_096;

#[derive(Debug)]
pub(crate) struct Overlay {
    file: FileBackend,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    /// How long the whole is now.
    len: u64,
    /// How much of the file still counts: what was cut off is zero when it comes back.
    file_len: u64,
    /// The blocks that are not as in the file, by their number.
    blocks: HashMap<u64, Box<[u8; BLOCK_BYTES as usize]>>,
}

impl Overlay {
    /// The file must exist and not be empty.
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = File::open(path).map_err(StorageError::Io)?;
        let len = file.metadata().map_err(StorageError::Io)?.len();
        if len == 0 {
            return Err(StorageError::Io(io::Error::new(ErrorKind::InvalidData, "it is empty")).into());
        }
        let written = Written { len, file_len: len, blocks: HashMap::new() };
        Ok(Self { file: FileBackend::new(file)?, written: Mutex::new(written) })
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block as it is in the file, zero where that ends.
    fn block_of_file(&self, number: u64, file_len: u64) -> io::Result<Box<[u8; BLOCK_BYTES as usize]>> {
        let mut block = Box::new([0; BLOCK_BYTES as usize]);
        let start = number * BLOCK_BYTES;
        let length = file_len.saturating_sub(start).min(BLOCK_BYTES) as usize;
        self.file.read(start, &mut block[..length])?;
        Ok(block)
    }
}

/// The blocks that `length` bytes from `offset` lie in: the number of each, where in it they start, and
/// how many they are.
fn parts(mut offset: u64, mut length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    std::iter::from_fn(move || {
        let (number, start) = (offset / BLOCK_BYTES, (offset % BLOCK_BYTES) as usize);
        let part = length.min(BLOCK_BYTES as usize - start);
        (offset, length) = (offset + part as u64, length - part);
        (part > 0).then_some((number, start, part))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        for (number, start, length) in parts(offset, out.len()) {
            let (part, rest) = out.split_at_mut(length);
            match written.blocks.get(&number) {
                Some(block) => part.copy_from_slice(&block[start..start + length]),
                None => part
                    .copy_from_slice(&self.block_of_file(number, written.file_len)?[start..start + length]),
            }
            out = rest;
        }
        Ok(())
    }

    fn write(&self, offset: u64, mut data: &[u8]) -> io::Result<()> {
        let mut written = self.lock();
        let Written { len, file_len, blocks } = &mut *written;
        for (number, start, length) in parts(offset, data.len()) {
            let (part, rest) = data.split_at(length);
            let mut block = match blocks.remove(&number) {
                Some(block) => block,
                None => self.block_of_file(number, *file_len)?,
            };
            block[start..start + length].copy_from_slice(part);
            blocks.insert(number, block);
            data = rest;
            *len = (*len).max(number * BLOCK_BYTES + (start + length) as u64);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.lock();
        written.blocks.retain(|number, block| {
            let kept = len.saturating_sub(number * BLOCK_BYTES).min(BLOCK_BYTES) as usize;
            block[kept..].fill(0);
            kept > 0
        });
        written.file_len = written.file_len.min(len);
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    /// Shared, since the file is only read, which also an exclusive lock of another process refuses.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
