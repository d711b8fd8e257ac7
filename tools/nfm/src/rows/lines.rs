//! Bytes to lines: decompression, line ends, UTF-8.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, ErrorKind, Read},
    str::from_utf8,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// The first bytes of a gzip member: two of magic, then the one method there is.
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// The first bytes of a Parquet file, and of one whose end is encrypted.
const PARQUET_MAGICS: [&[u8]; 2] = [b"PAR1", b"PARE"];
/// Longest line; a larger one is no row but another kind of file.
const LINE_MAX_BYTES: u64 = 16 << 20;
/// More than the decoder's and the system's granularity, less than the L2 cache.
const BUFFER_BYTES: usize = 64 << 10;

/// A file of rows by its first bytes.
pub(super) enum Input {
    Text(Lines),
    /// Parquet, which is read from any place.
    Parquet(File),
}

impl Input {
    /// Looks at what `reader` has, which reads all of `file` where that is a file that can be read from any place.
    pub(super) fn open(
        name: &str,
        mut reader: impl Read + Send + 'static,
        file: Option<File>,
    ) -> Result<Self> {
        let mut magic = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut magic).map_err(|e| Error::io(name, e))?;
        let is_parquet = PARQUET_MAGICS.contains(&magic.as_slice());
        let is_gzip = magic.starts_with(&GZIP_MAGIC);
        let mut whole = Cursor::new(magic).chain(reader);
        if !is_parquet {
            return Ok(Self::Text(Lines::new(name, whole, is_gzip)?));
        }
        if let Some(file) = file {
            return Ok(Self::Parquet(file));
        }
        let mut copy = tempfile::tempfile().map_err(|e| Error::io(name, e))?;
        io::copy(&mut whole, &mut copy).map_err(|e| Error::io(name, e))?;
        Ok(Self::Parquet(copy))
    }
}

/// The lines of a text that are not blank, without their line ends.
pub(super) struct Lines {
    file: String,
    source: Box<dyn BufRead + Send>,
    gzip: bool,
    bytes_read: Arc<AtomicU64>,
    line: String,
    number: u64,
    /// The line was read and is to be given again.
    pending: bool,
}

impl Lines {
    fn new(file: &str, reader: impl Read + Send + 'static, gzip: bool) -> Result<Self> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let reader = Counted { reader, count: Arc::clone(&bytes_read) };
        let raw = BufReader::with_capacity(BUFFER_BYTES, reader);
        let source: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        let (line, number, pending) = (String::new(), 0, false);
        let mut lines = Self { file: file.into(), source, gzip, bytes_read, line, number, pending };
        lines.refuse_parquet()?;
        Ok(lines)
    }

    /// Refuses what gzip should not have been used on.
    fn refuse_parquet(&mut self) -> Result<()> {
        let start = self.source.fill_buf().map(|start| start.get(..4).unwrap_or_default().to_vec());
        let start = start.map_err(|e| self.unreadable(e))?;
        if self.gzip && PARQUET_MAGICS.contains(&start.as_slice()) {
            let problem = "expected text inside of gzip, found a Parquet file; give it without gzip";
            return Err(Error::refused(&self.file, "", problem));
        }
        Ok(())
    }

    /// Lets [`Self::advance`] give the line last read again.
    pub(super) fn put_back(&mut self) {
        self.pending = true;
    }

    /// Reads the next line that is not blank; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool> {
        if core::mem::take(&mut self.pending) {
            return Ok(true);
        }
        loop {
            let mut bytes = core::mem::take(&mut self.line).into_bytes();
            bytes.clear();
            let mut limited = (&mut self.source).take(LINE_MAX_BYTES);
            let read = limited.read_until(b'\n', &mut bytes);
            self.number = self.number.saturating_add(1);
            if read.map_err(|e| self.unreadable(e))? == 0 {
                self.number -= 1; // was increased above
                return Ok(false);
            }
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
                if bytes.last() == Some(&b'\r') {
                    bytes.pop();
                }
            } else if u64::try_from(bytes.len()).is_ok_and(|len| len >= LINE_MAX_BYTES) {
                return Err(self.refused(format!(
                    "expected a line of less than {LINE_MAX_BYTES} bytes, found a longer one; is this a file of rows?"
                )));
            }
            if self.number == 1 && bytes.starts_with("\u{feff}".as_bytes()) {
                bytes.drain(.."\u{feff}".len());
            }
            if let Err(e) = from_utf8(&bytes) {
                let column = e.valid_up_to().saturating_add(1);
                return Err(self.refused(format!(
                    "expected UTF-8 text, found an invalid byte sequence at byte {column} of the line"
                )));
            }
            self.line = String::from_utf8(bytes).unwrap_or_default(); // was just checked
            if !self.line.trim_ascii().is_empty() {
                return Ok(true);
            }
        }
    }

    /// The line last read.
    pub(super) fn text(&self) -> &str {
        &self.line
    }

    /// Its number, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    fn refused(&self, problem: impl Into<String>) -> Error {
        Error::refused(&self.file, format!("line {}", self.number.max(1)), problem)
    }

    fn unreadable(&self, error: io::Error) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof if self.gzip => self.refused(format!(
                "expected the end of the gzip stream, but the file is cut after {} bytes; copy it again",
                self.bytes_read()
            )),
            ErrorKind::InvalidInput | ErrorKind::InvalidData if self.gzip => {
                self.refused(format!("expected an intact gzip stream, but it is damaged: {error}"))
            }
            _ => Error::io(&self.file, error),
        }
    }
}

/// Counts what is read.
struct Counted<R> {
    reader: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.count.fetch_add(u64::try_from(read).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(read)
    }
}
