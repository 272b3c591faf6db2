//! Disks that fail in ways of their own, where this process may make some; said loudly where not.

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A file system of 4 MiB that is soon full.
#[derive(Debug)]
pub struct SmallDisk(TempDir);

/// A file system that can be frozen: whoever writes to it waits.
#[derive(Debug)]
pub struct SlowDisk {
    mounted: TempDir,
    /// Where the file is that it is in.
    _image: TempDir,
}

/// While this is there nothing gets on the disk.
#[derive(Debug)]
pub struct Frozen<'a>(&'a Path);

impl SmallDisk {
    /// Make one; none where that is not allowed.
    #[must_use]
    pub fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let mounted =
            did(Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(folder.path()));
        skipped_unless(mounted, "fills a small disk");
        mounted.then(|| Self(folder))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// From now on nobody may write to it; false where somebody does.
    #[must_use]
    pub fn remount_read_only(&self) -> bool {
        did(Command::new("mount").args(["-o", "remount,ro"]).arg(self.path()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        did(Command::new("umount").arg("-l").arg(self.path()));
    }
}

impl SlowDisk {
    /// Make one; none where that is not allowed.
    #[must_use]
    pub fn mount() -> Option<Self> {
        let (mounted, image) = (tempfile::tempdir().ok()?, tempfile::tempdir().ok()?);
        let file = image.path().join("image");
        let is_there = did(Command::new("truncate").args(["-s", "32M"]).arg(&file))
            && did(Command::new("mkfs.ext4").arg("-q").arg(&file))
            && did(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(mounted.path()));
        skipped_unless(is_there, "slows a disk down");
        is_there.then(|| Self { mounted, _image: image })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.mounted.path()
    }

    /// Let writers wait until what this returns is dropped.
    ///
    /// # Panics
    /// When it cannot be frozen.
    #[must_use]
    pub fn freeze(&self) -> Frozen<'_> {
        assert!(did(Command::new("fsfreeze").arg("-f").arg(self.path())), "it is frozen");
        Frozen(self.path())
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        did(Command::new("fsfreeze").arg("-u").arg(self.0));
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        did(Command::new("umount").arg("-l").arg(self.path()));
    }
}

fn did(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn skipped_unless(is_there: bool, test: &str) {
    if !is_there {
        eprintln!("SKIPPED: only root can mount what this test takes, which {test}");
    }
}
