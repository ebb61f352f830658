//! The digest of a file: by it a job knows the file again.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::{RowsError, RowsFault};
use crate::engine::headers::hex;

/// SHA-256 of a file; its text is 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Reads a file to its end.
///
/// # Errors
///
/// When it cannot be read.
pub fn digest(path: &Path) -> Result<Digest, RowsError> {
    let read = File::open(path).and_then(of);
    read.map_err(|error| RowsError {
        name: path.display().to_string(),
        fault: RowsFault::Unreadable(error),
    })
}

fn of(mut input: impl Read) -> io::Result<Digest> {
    let mut sum = Sha256::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        match input.read(&mut part) {
            Ok(0) => return Ok(Digest(sum.finalize().into())),
            Ok(read) => sum.update(&part[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_bytes() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of(&b""[..]).expect("memory").to_string(), empty);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(&b"abc"[..]).expect("memory").to_string(), abc);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = digest(Path::new("/nowhere/rows.csv")).expect_err("no file");
        assert!(
            error
                .to_string()
                .starts_with("/nowhere/rows.csv: it cannot be read: ")
        );
    }
}
