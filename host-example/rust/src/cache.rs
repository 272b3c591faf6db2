//! Compile once: native code of a component, kept in a folder that only this user can write to.
//!
//! The cache is an optimisation and nothing more: whatever is wrong with it, the component is
//! compiled as if there were none.

use sha2::{Digest, Sha256};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Where compiled components are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// `thread-budget` in the user's cache folder (`$XDG_CACHE_HOME` or `~/.cache` on Linux).
    #[default]
    User,
    /// This folder. It is created, or made private, when needed.
    Folder(PathBuf),
    /// Nowhere: compile at every start.
    Off,
}

impl Cache {
    fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::User => {
                use etcetera::BaseStrategy;
                Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("thread-budget"))
            }
            Self::Folder(folder) => Some(folder.clone()),
            Self::Off => None,
        }
    }

    /// The component as native code: from the cache, or compiled and put there. For hosts that run components
    /// of their own beside the registry.
    ///
    /// # Errors
    /// When it is not a component, or not one that this engine can compile.
    pub fn load_or_compile(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        let Some(folder) = self.folder().filter(|folder| make_private(folder).is_ok()) else {
            return Component::new(engine, bytes);
        };
        let file = folder.join(file_name(engine, bytes));
        if let Some(component) = load(engine, &file) {
            return Ok(component);
        }
        let component = Component::new(engine, bytes)?;
        if let Ok(code) = component.serialize() {
            // Not being able to keep it costs the next start some time, no more.
            let _ = store(&folder, &file, &code);
        }
        Ok(component)
    }
}

/// A SHA-256 in front of the code, so that a damaged file is noticed before it is run.
const DIGEST_BYTES: usize = 32;

/// Names what the code depends on: the component, and wasmtime's version and settings.
fn file_name(engine: &Engine, bytes: &[u8]) -> String {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    format!("{:x}-{:016x}.cwasm", Sha256::digest(bytes), settings.finish())
}

fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    if is_ours(&fs::metadata(folder)?) { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Whether nobody but this user can have written it. Without this check root, for one, would run
/// whatever lies in the cache of the user it was called by.
fn is_ours(metadata: &fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0
    }
    #[cfg(not(unix))]
    {
        metadata.is_dir() || metadata.is_file()
    }
}

fn load(engine: &Engine, file: &Path) -> Option<Component> {
    let mut file = fs::File::open(file).ok().filter(|file| file.metadata().is_ok_and(|m| is_ours(&m)))?;
    let mut content = Vec::new();
    file.read_to_end(&mut content).ok()?;
    let (digest, code) = content.split_at_checked(DIGEST_BYTES)?;
    if Sha256::digest(code).as_slice() != digest {
        return None;
    }
    // SAFETY: native code is only as trustworthy as who wrote it. Nobody but this user can have
    // written this file, and it is whole: its digest is right. wasmtime itself refuses code of
    // another version or with other settings.
    #[allow(unsafe_code)]
    unsafe { Component::deserialize(engine, code) }.ok()
}

/// Written beside and renamed, so that a reader sees the whole file or none.
fn store(folder: &Path, file: &Path, code: &[u8]) -> io::Result<()> {
    // Readable and writable by this user only, which is what `tempfile` creates.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(&Sha256::digest(code))?;
    temporary.write_all(code)?;
    temporary.persist(file)?;
    Ok(())
}
