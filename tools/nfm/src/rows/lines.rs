//! Bytes to lines: decompression, line ends, UTF-8.

use std::{
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
/// Longest line; a larger one is no row but another kind of file.
const LINE_MAX_BYTES: u64 = 16 << 20;
/// More than the decoder's and the system's granularity, less than the L2 cache.
const BUFFER_BYTES: usize = 64 << 10;

/// The lines of a text that are not blank, without their line ends.
pub(super) struct Lines {
    file: String,
    source: Box<dyn BufRead + Send>,
    gzip: bool,
    bytes_read: Arc<AtomicU64>,
    total_bytes: Option<u64>,
    line: String,
    number: u64,
}

impl Lines {
    pub(super) fn new(
        file: &str,
        reader: impl Read + Send + 'static,
        total_bytes: Option<u64>,
    ) -> Result<Self> {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let mut reader = Counted { reader, count: Arc::clone(&bytes_read) };
        let mut magic = Vec::new();
        let len = u64::try_from(GZIP_MAGIC.len()).unwrap_or(u64::MAX);
        reader.by_ref().take(len).read_to_end(&mut magic).map_err(|e| Error::io(file, e))?;
        let gzip = magic == GZIP_MAGIC;
        let raw = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(reader));
        let source: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        Ok(Self { file: file.into(), source, gzip, bytes_read, total_bytes, line: String::new(), number: 0 })
    }

    /// Reads the next line that is not blank; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool> {
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

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    pub(super) fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    fn refused(&self, problem: impl Into<String>) -> Error {
        Error::refused(&self.file, format!("line {}", self.number), problem)
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
