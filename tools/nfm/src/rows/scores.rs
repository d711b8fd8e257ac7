//! Scores to CSV.

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, Write},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Writes scores as CSV: the header `raw` or `raw,probability`, then one line a row.
///
/// Each number has the fewest digits that read back to the same `f64`. A file appears under its name only when
/// [`ScoreWriter::finish`] succeeds; until then what stood there stays. When standard output is closed by its reader,
/// as `head` does, the rest is dropped without an error.
///
/// ```
/// use nfm::rows::ScoreWriter;
///
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("scores.csv");
/// let mut scores = ScoreWriter::create(Some(&path), true)?;
/// scores.write(0.0, Some(0.5))?;
/// scores.finish()?;
/// assert_eq!(std::fs::read_to_string(&path)?, "raw,probability\n0.0,0.5\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ScoreWriter {
    file: String,
    target: Target,
    probability: bool,
    rows: u64,
}

#[derive(Debug)]
enum Target {
    /// Renamed to `path` at the end.
    Temporary {
        writer: BufWriter<NamedTempFile>,
        path: PathBuf,
    },
    /// What is no regular file, as a pipe or a device: it cannot be replaced, only written to.
    Special(BufWriter<File>),
    Stdout(BufWriter<io::Stdout>),
    /// Standard output has no reader any more.
    Closed,
}

impl ScoreWriter {
    /// Writes to `path`, or to standard output for `None` and `-`; with or without a `probability` column.
    ///
    /// # Errors
    ///
    /// When no file can be created in the folder of `path`.
    pub fn create(path: Option<&Path>, probability: bool) -> Result<Self> {
        let path = path.filter(|path| *path != Path::new("-"));
        let (file, target) = match path {
            None => ("standard output".into(), Target::Stdout(BufWriter::new(io::stdout()))),
            Some(path) => (path.display().to_string(), Target::open(path).map_err(|e| Error::io(path, e))?),
        };
        let mut scores = Self { file, target, probability, rows: 0 };
        scores.put(if probability { "raw,probability\n" } else { "raw\n" })?;
        Ok(scores)
    }

    /// Appends the scores of one row.
    ///
    /// # Errors
    ///
    /// When the system refuses, or when `probability` is there and its column is not, or the other way round.
    pub fn write(&mut self, raw: f64, probability: Option<f64>) -> Result<()> {
        self.rows = self.rows.saturating_add(1);
        // `Debug` has the shortest digits as `Display` has, but writes 1e-300 with an exponent.
        match (self.probability, probability) {
            (false, None) => self.put(&format!("{raw:?}\n")),
            (true, Some(probability)) => self.put(&format!("{raw:?},{probability:?}\n")),
            (true, None) => Err(self.mismatch("expected a probability, found none")),
            (false, Some(_)) => Err(self.mismatch("expected no probability, found one")),
        }
    }

    /// Whether the reader of standard output has gone, which makes more scores pointless.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.target, Target::Closed)
    }

    /// Writes what is buffered and gives the file its name.
    ///
    /// # Errors
    ///
    /// When the system refuses; then the file is not there, or is what it was.
    pub fn finish(mut self) -> Result<()> {
        let done = match self.target {
            Target::Temporary { writer, path } => finish_file(writer, &path),
            Target::Special(ref mut writer) => writer.flush(),
            Target::Stdout(ref mut writer) => writer.flush().or_else(ignore_broken_pipe),
            Target::Closed => Ok(()),
        };
        done.map_err(|e| Error::io(&self.file, e))
    }

    fn put(&mut self, text: &str) -> Result<()> {
        let written = match &mut self.target {
            Target::Temporary { writer, .. } => writer.write_all(text.as_bytes()),
            Target::Special(writer) => writer.write_all(text.as_bytes()),
            Target::Stdout(writer) => match writer.write_all(text.as_bytes()) {
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {
                    self.target = Target::Closed;
                    Ok(())
                }
                other => other,
            },
            Target::Closed => Ok(()),
        };
        written.map_err(|e| Error::io(&self.file, e))
    }

    fn mismatch(&self, problem: &str) -> Error {
        Error::refused(&self.file, format!("row {}", self.rows), problem)
    }
}

impl Target {
    fn open(path: &Path) -> io::Result<Self> {
        // Of a link, what it points to is replaced; a target that is not there yet has its own name.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            let file = File::options().write(true).open(&path)?;
            return Ok(Self::Special(BufWriter::new(file)));
        }
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".nfm-").suffix(".tmp");
        #[cfg(unix)]
        {
            // Those of the file that is replaced; otherwise as for any new file, less the umask.
            let new = || std::os::unix::fs::PermissionsExt::from_mode(0o666);
            builder.permissions(fs::metadata(&path).map_or_else(|_| new(), |old| old.permissions()));
        }
        let file = builder.tempfile_in(folder)?;
        Ok(Self::Temporary { writer: BufWriter::new(file), path })
    }
}

/// Writes a file: all of it, or none. What is no regular file, as a pipe, is written to.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match Target::open(path)? {
        Target::Temporary { mut writer, path } => {
            writer.write_all(bytes)?;
            finish_file(writer, &path)
        }
        Target::Special(mut writer) => writer.write_all(bytes).and_then(|()| writer.flush()),
        Target::Stdout(_) | Target::Closed => Ok(()),
    }
}

fn finish_file(writer: BufWriter<NamedTempFile>, path: &Path) -> io::Result<()> {
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    // Otherwise a loss of power could leave the name with no content.
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn ignore_broken_pipe(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(path: &Path) -> ScoreWriter {
        let mut scores = ScoreWriter::create(Some(path), true).unwrap();
        scores.write(-1.5, Some(0.25)).unwrap();
        scores
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn numbers_read_back_to_the_same_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let values = [0.1 + 0.2, -0.0, 1e300, 5e-324, f64::MAX, -7.0, 1.0 / 3.0];
        let mut scores = ScoreWriter::create(Some(&path), false).unwrap();
        for value in values {
            scores.write(value, None).unwrap();
        }
        scores.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("raw"));
        let read: Vec<u64> = lines.map(|line| line.parse::<f64>().unwrap().to_bits()).collect();
        assert_eq!(read, values.map(f64::to_bits));
        assert!(text.contains("0.30000000000000004\n-0.0\n1e300\n5e-324\n"), "{text}");
    }

    #[test]
    fn a_file_that_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        drop(score(&path));
        assert!(names(folder.path()).is_empty());
        fs::write(&path, "old").unwrap();
        drop(score(&path));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        score(&path).finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "raw,probability\n-1.5,0.25\n");
        assert_eq!(names(folder.path()), ["out.csv"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing").join("out.csv");
        let error = ScoreWriter::create(Some(&path), true).unwrap_err().to_string();
        assert!(error.contains("missing") && error.contains("out.csv"), "{error}");
        assert!(ScoreWriter::create(Some(folder.path()), true).is_err(), "the target is a folder");
    }

    #[test]
    fn a_probability_that_does_not_fit_the_header_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let mut with = ScoreWriter::create(Some(&path), true).unwrap();
        assert!(with.write(0.0, None).unwrap_err().to_string().contains("row 1: expected a probability"));
        let mut without = ScoreWriter::create(Some(&path), false).unwrap();
        assert!(without.write(0.0, Some(0.5)).unwrap_err().to_string().contains("expected no probability"));
    }

    /// The child's part of the test below: writes until standard output is closed.
    #[test]
    #[ignore = "a_closed_pipe_ends_quietly runs it as a child process"]
    fn child_writes_to_standard_output() {
        if std::env::var_os("NFM_TEST_CHILD").is_none() {
            return;
        }
        let mut scores = ScoreWriter::create(None, false).unwrap();
        for _ in 0..1_000_000 {
            scores.write(0.5, None).unwrap();
        }
        // Not a return, because the test harness would print.
        std::process::exit(if scores.is_closed() && scores.finish().is_ok() { 42 } else { 1 });
    }

    #[test]
    fn a_closed_pipe_ends_quietly() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "rows::scores::tests::child_writes_to_standard_output",
                "--nocapture",
                "--ignored",
            ])
            .env("NFM_TEST_CHILD", "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut start = [0; 4096];
        io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut start).unwrap();
        assert!(String::from_utf8_lossy(&start).contains("raw\n0.5\n"));
        assert_eq!(child.wait().unwrap().code(), Some(42));
    }

    #[test]
    #[cfg(unix)]
    fn a_link_stays_a_link_and_a_device_stays_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file.csv"), folder.path().join("link.csv"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        score(&link).finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&file).unwrap().starts_with("raw,"));

        score(Path::new("/dev/null")).finish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
