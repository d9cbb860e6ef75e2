//! How is a file kept through a crash and a power cut?
//!
//! It is written beside, to the disk, and moved into its place: a crash leaves the old one or the new one. The directory
//! goes to the disk after it, without which a power cut may bring back the old one that was said to be replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file, which nobody else may read. Where that fails, the one that was there stays.
///
/// # Errors
/// What the operating system says. Where that is of the directory alone, the new one is there, and may be gone after a power
/// cut.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    remove_if_there(draft)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(draft)?;
    let moved = file
        .write_all(content)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(draft, path));
    if moved.is_err() {
        let _ = fs::remove_file(draft); // It takes room that the next one needs.
    }
    moved?;
    sync_directory_of(path)
}

/// Removes a file, if it is there.
///
/// # Errors
/// As [`replace`].
pub fn remove(path: &Path) -> io::Result<()> {
    remove_if_there(path)?;
    sync_directory_of(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Brings to the disk which files there are beside this one.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match File::open(directory)?.sync_all() {
        // There are file systems that know no such thing.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_file_is_replaced_whole_or_stays_and_nothing_is_left_beside_it() {
        let directory = TempDir::new();
        let path = directory.path().join("denied.json");
        let names = || fs::read_dir(directory.path()).unwrap().count();
        for content in ["first", "second"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        // What a crash has left.
        fs::write(directory.path().join("denied.json.new"), "half").unwrap();
        replace(&path, b"third").unwrap();
        assert_eq!((fs::read(&path).unwrap(), names()), (b"third".to_vec(), 1));
        remove(&path).unwrap();
        remove(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"fourth").is_err(), "a folder has its name");
        assert!(remove(&path).is_err());
        assert_eq!(names(), 1);
    }

    #[test]
    fn a_directory_that_cant_be_brought_to_the_disk_is_passed_over_and_one_that_is_none_is_not() {
        let refused = File::open("/proc").unwrap().sync_all().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused}");
        sync_directory_of(Path::new("/proc/self")).unwrap();
        sync_directory_of(Path::new("relative")).unwrap();
        let nowhere = sync_directory_of(Path::new("/nowhere at all/file")).unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
    }
}
