//! An unpickler that executes nothing.
//!
//! It runs the pickle opcodes of protocols 0 to 5 over a stack of inert [`Node`]s: a class is a name, an
//! object is its class's name with its state, a call is the callable's name with its arguments. A call
//! of anything that [`callables`] does not know is refused by name, even though it would not be made.
//!
//! Own code, because no crate gives what the dialects need from it. `pytorch-reader` is maintained and
//! careful but keeps tensors and dicts in hash maps (their order is lost), reduces a whole model to its
//! state dict (the class names and attributes that say which graph it is are lost) and keeps unknown
//! calls; `candle-core` brings a whole framework; `repugnant-pickle` and `serde-pickle` are unmaintained
//! for this use or cannot do persistent ids; none says at which byte a pickle is wrong.

use std::{
    collections::HashMap,
    io::{self, BufRead, Read, Seek},
    mem,
};

use super::{
    callables::{self, Effect},
    object::{Global, Id, Instance, NONE, Node, Tree},
    rebuild::{ArrayBytes, array_bytes},
};
use crate::error::{Error, Result};

/// The opcodes, named as in Python's `pickle.py`.
#[rustfmt::skip]
mod op {
    pub(super) const MARK: u8 = b'(';
    pub(super) const STOP: u8 = b'.';
    pub(super) const POP: u8 = b'0';
    pub(super) const POP_MARK: u8 = b'1';
    pub(super) const DUP: u8 = b'2';
    pub(super) const FLOAT: u8 = b'F';
    pub(super) const INT: u8 = b'I';
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const LONG: u8 = b'L';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const NONE: u8 = b'N';
    pub(super) const PERSID: u8 = b'P';
    pub(super) const BINPERSID: u8 = b'Q';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const STRING: u8 = b'S';
    pub(super) const BINSTRING: u8 = b'T';
    pub(super) const SHORT_BINSTRING: u8 = b'U';
    pub(super) const UNICODE: u8 = b'V';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const BUILD: u8 = b'b';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const DICT: u8 = b'd';
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const GET: u8 = b'g';
    pub(super) const BINGET: u8 = b'h';
    pub(super) const INST: u8 = b'i';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const LIST: u8 = b'l';
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const OBJ: u8 = b'o';
    pub(super) const PUT: u8 = b'p';
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const LONG_BINPUT: u8 = b'r';
    pub(super) const SETITEM: u8 = b's';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const NEWOBJ: u8 = 0x81;
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const LONG4: u8 = 0x8b;
    pub(super) const BINBYTES: u8 = b'B';
    pub(super) const SHORT_BINBYTES: u8 = b'C';
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const BINUNICODE8: u8 = 0x8d;
    pub(super) const BINBYTES8: u8 = 0x8e;
    pub(super) const EMPTY_SET: u8 = 0x8f;
    pub(super) const ADDITEMS: u8 = 0x90;
    pub(super) const FROZENSET: u8 = 0x91;
    pub(super) const NEWOBJ_EX: u8 = 0x92;
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const FRAME: u8 = 0x95;
    pub(super) const BYTEARRAY8: u8 = 0x96;
}

/// Bytes with a known end, which says at which byte it is.
#[derive(Debug)]
pub(super) struct Input<'a, R> {
    reader: R,
    /// The file, as the user named it.
    file: &'a str,
    /// The archive's entry; empty for the file itself.
    entry: &'a str,
    at: u64,
    end: u64,
    /// Whether long byte strings stay where they are.
    spans: bool,
}

/// Shorter byte strings are read with the pickle.
const SPAN_BYTES: u64 = 1 << 16;

impl<'a, R: BufRead> Input<'a, R> {
    /// The bytes `at..end` of `entry` of `file`, of which `reader` gives the first next.
    pub(super) fn new(reader: R, file: &'a str, entry: &'a str, at: u64, end: u64) -> Self {
        Self { reader, file, entry, at, end, spans: false }
    }

    /// The same, of which [`unpickle`] leaves long byte strings where they are, as [`Node::Span`].
    pub(super) fn with_spans(self) -> Self {
        Self { spans: true, ..self }
    }

    /// Passes over the next `len` bytes.
    fn pass(&mut self, len: u64) -> Result<()> {
        let left = self.end.saturating_sub(self.at);
        if len > left {
            return Err(self.cut(len, left));
        }
        let got = io::copy(&mut (&mut self.reader).take(len), &mut io::sink()).map_err(|e| self.io(e))?;
        if got != len {
            return Err(self.cut(len, got));
        }
        self.at += len;
        Ok(())
    }

    /// The offset of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// An error about the byte `at`.
    pub(super) fn refuse(&self, at: u64, problem: impl Into<String>) -> Error {
        let gap = if self.entry.is_empty() { "" } else { " " };
        Error::refused(self.file, format!("{}{gap}byte {at}", self.entry), problem)
    }

    /// The next `len` bytes, which are allocated only as they arrive.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        let left = self.end.saturating_sub(self.at);
        if len > left {
            return Err(self.cut(len, left));
        }
        let mut bytes = Vec::new();
        let got = (&mut self.reader).take(len).read_to_end(&mut bytes).map_err(|e| self.io(e))?;
        if got as u64 != len {
            return Err(self.cut(len, got as u64));
        }
        self.at += len;
        Ok(bytes)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let left = self.end.saturating_sub(self.at);
        if N as u64 > left {
            return Err(self.cut(N as u64, left));
        }
        let mut array = [0; N];
        self.reader.read_exact(&mut array).map_err(|e| self.io(e))?;
        self.at += N as u64;
        Ok(array)
    }

    /// The bytes before the next line feed, which is passed over.
    fn line(&mut self) -> Result<Vec<u8>> {
        let left = self.end.saturating_sub(self.at);
        let mut line = Vec::new();
        let got = (&mut self.reader).take(left).read_until(b'\n', &mut line).map_err(|e| self.io(e))?;
        if line.pop() != Some(b'\n') {
            return Err(self.refuse(self.at, "expected a line, found the end; the file is cut or damaged"));
        }
        self.at += got as u64;
        Ok(line)
    }

    /// Passes over bytes of which nothing is needed.
    pub(super) fn skip(&mut self, len: u64) -> Result<()>
    where
        R: Seek,
    {
        let step = i64::try_from(len).unwrap_or(i64::MAX);
        self.reader.seek_relative(step).map_err(|e| self.io(e))?;
        self.at = self.at.saturating_add(len);
        Ok(())
    }

    /// Reads what is left, so that an archive compares its checksum.
    pub(super) fn finish(mut self) -> Result<()> {
        let left = self.end.saturating_sub(self.at).saturating_add(1);
        let rest = io::copy(&mut (&mut self.reader).take(left), &mut io::sink()).map_err(|e| self.io(e))?;
        if rest == left {
            return Err(self.refuse(self.end, "longer than the archive says; the file is damaged"));
        }
        Ok(())
    }

    fn cut(&self, wanted: u64, left: u64) -> Error {
        let problem = format!("expected {wanted} more bytes, found {left}; the file is cut or damaged");
        self.refuse(self.at, problem)
    }

    fn io(&self, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                self.refuse(self.at, format!("{source}; the file is cut or damaged"))
            }
            _ => Error::io(self.file, source),
        }
    }
}

/// Reads one pickle, to its `STOP`.
pub(super) fn unpickle<R: BufRead>(input: &mut Input<'_, R>) -> Result<Tree> {
    let start = input.at;
    let mut machine = Machine {
        input,
        tree: Tree::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
        start,
        at: start,
        is_nested: false,
    };
    machine.tree.root = machine.run()?;
    Ok(machine.tree)
}

struct Machine<'i, 'a, R> {
    input: &'i mut Input<'a, R>,
    tree: Tree,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Items and bytes that a call copied from a memoized object: the only way in which a pickle grows
    /// faster than its length.
    copied: u64,
    /// The offset of the pickle.
    start: u64,
    /// The offset of the opcode.
    at: u64,
    /// Whether this is the pickle of an array within another pickle.
    is_nested: bool,
}

impl<R: BufRead> Machine<'_, '_, R> {
    /// Runs to `STOP`; gives what is on the top then.
    fn run(&mut self) -> Result<Id> {
        while self.step()? {}
        self.pop()
    }

    /// Runs one opcode; false at `STOP`.
    fn step(&mut self) -> Result<bool> {
        self.at = self.input.at;
        let [opcode] = self.input.array()?;
        match opcode {
            op::STOP => return Ok(false),
            op::PROTO => {
                let [version] = self.input.array()?;
                if version > 5 {
                    return Err(self.refuse(format!("expected a pickle protocol ≤ 5, found {version}")));
                }
            }
            op::FRAME => drop(self.input.array::<8>()?),
            op::NONE | op::NEWTRUE | op::NEWFALSE | op::INT | op::LONG | op::FLOAT | op::BINFLOAT => {
                self.scalar(opcode)?;
            }
            op::BININT | op::BININT1 | op::BININT2 | op::LONG1 | op::LONG4 => self.integer(opcode)?,
            op::STRING | op::BINSTRING | op::SHORT_BINSTRING => self.string(opcode)?,
            op::UNICODE | op::BINUNICODE | op::SHORT_BINUNICODE | op::BINUNICODE8 => self.unicode(opcode)?,
            op::BINBYTES | op::SHORT_BINBYTES | op::BINBYTES8 | op::BYTEARRAY8 => self.byte_string(opcode)?,
            op::GET | op::BINGET | op::LONG_BINGET => self.get(opcode)?,
            op::PUT | op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => self.put(opcode)?,
            op::MARK | op::POP | op::POP_MARK | op::DUP => self.shuffle(opcode)?,
            op::EMPTY_TUPLE | op::TUPLE | op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => self.tuple(opcode)?,
            op::EMPTY_LIST | op::LIST | op::EMPTY_SET | op::FROZENSET | op::EMPTY_DICT | op::DICT => {
                self.container(opcode)?;
            }
            op::APPEND | op::APPENDS | op::ADDITEMS => self.append(opcode)?,
            op::SETITEM | op::SETITEMS => self.set_items(opcode)?,
            op::GLOBAL | op::STACK_GLOBAL => self.global(opcode)?,
            op::NEWOBJ | op::NEWOBJ_EX | op::BUILD => self.object(opcode)?,
            op::REDUCE | op::INST | op::OBJ => self.call_opcode(opcode)?,
            op::PERSID | op::BINPERSID => self.persistent(opcode)?,
            _ => {
                let problem = format!("expected a pickle opcode, found 0x{opcode:02x}, which is unknown or");
                return Err(
                    self.refuse(format!("{problem} unsupported; the file is damaged, or not a pickle"))
                );
            }
        }
        Ok(true)
    }

    fn refuse(&self, problem: impl Into<String>) -> Error {
        self.input.refuse(self.at, problem)
    }

    fn add(&mut self, node: Node) -> Result<Id> {
        let id = self.tree.add(node);
        id.ok_or_else(|| self.refuse("more than 2³² objects; the file is hostile or damaged"))
    }

    fn push(&mut self, node: Node) -> Result<()> {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    /// Takes the top; what lies below the last mark is not reachable.
    fn pop(&mut self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = if self.stack.len() > floor { self.stack.pop() } else { None };
        top.ok_or_else(|| self.refuse("the pickle takes from an empty stack; the file is damaged"))
    }

    /// Takes all above the last mark, and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let Some(mark) = self.marks.pop() else {
            return Err(self.refuse("the pickle takes a mark that it never set; the file is damaged"));
        };
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    /// A length field of `N` little-endian bytes.
    fn length<const N: usize>(&mut self) -> Result<u64> {
        let bytes = self.input.array::<N>()?;
        Ok(bytes.iter().rev().fold(0, |len, byte| len << 8 | u64::from(*byte)))
    }

    fn text_line(&mut self) -> Result<String> {
        let line = self.input.line()?;
        String::from_utf8(line).map_err(|_| self.refuse("expected UTF-8 text; the file is damaged"))
    }

    fn scalar(&mut self, opcode: u8) -> Result<()> {
        let node = match opcode {
            op::NONE => {
                self.stack.push(NONE);
                return Ok(());
            }
            op::NEWTRUE | op::NEWFALSE => Node::Bool(opcode == op::NEWTRUE),
            op::BINFLOAT => Node::Float(f64::from_be_bytes(self.input.array()?)),
            op::FLOAT => match self.text_line()?.trim().parse() {
                Ok(float) => Node::Float(float),
                Err(_) => return Err(self.refuse("expected a number; the file is damaged")),
            },
            _ => match self.text_line()?.trim() {
                "00" if opcode == op::INT => Node::Bool(false),
                "01" if opcode == op::INT => Node::Bool(true),
                digits => match digits.trim_end_matches('L').parse() {
                    Ok(int) => Node::Int(int),
                    Err(_) => return Err(self.refuse("expected an integer of 64 bits")),
                },
            },
        };
        self.push(node)
    }

    fn integer(&mut self, opcode: u8) -> Result<()> {
        let bytes = match opcode {
            op::BININT => {
                let int = i32::from_le_bytes(self.input.array()?);
                return self.push(Node::Int(int.into()));
            }
            op::BININT1 => {
                let [int] = self.input.array()?;
                return self.push(Node::Int(int.into()));
            }
            op::BININT2 => {
                let int = u16::from_le_bytes(self.input.array()?);
                return self.push(Node::Int(int.into()));
            }
            op::LONG1 => {
                let len = self.length::<1>()?;
                self.input.bytes(len)?
            }
            _ => {
                let len = self.length::<4>()?;
                self.input.bytes(len)?
            }
        };
        self.push(long(bytes))
    }

    fn string(&mut self, opcode: u8) -> Result<()> {
        let bytes = match opcode {
            op::STRING => {
                let line = self.text_line()?;
                let quoted = line.strip_prefix('\'').and_then(|l| l.strip_suffix('\''));
                let quoted = quoted.or_else(|| line.strip_prefix('"').and_then(|l| l.strip_suffix('"')));
                match quoted {
                    Some(text) if !text.contains('\\') => text.as_bytes().to_vec(),
                    _ => return Err(self.refuse("expected a quoted string without escapes")),
                }
            }
            op::BINSTRING => {
                let len = self.length::<4>()?;
                self.input.bytes(len)?
            }
            _ => {
                let len = self.length::<1>()?;
                self.input.bytes(len)?
            }
        };
        // Python 2 has one type for text and bytes.
        self.push(match String::from_utf8(bytes) {
            Ok(text) => Node::Text(text.into()),
            Err(error) => Node::Bytes(error.into_bytes().into()),
        })
    }

    fn unicode(&mut self, opcode: u8) -> Result<()> {
        let len = match opcode {
            op::UNICODE => {
                let text = self.text_line()?;
                if text.contains('\\') {
                    return Err(
                        self.refuse("expected text without escapes; save it with protocol 2 or later")
                    );
                }
                return self.push(Node::Text(text.into()));
            }
            op::BINUNICODE => self.length::<4>()?,
            op::SHORT_BINUNICODE => self.length::<1>()?,
            _ => self.length::<8>()?,
        };
        let Ok(text) = String::from_utf8(self.input.bytes(len)?) else {
            return Err(self.refuse("expected UTF-8 text; the file is damaged"));
        };
        self.push(Node::Text(text.into()))
    }

    fn byte_string(&mut self, opcode: u8) -> Result<()> {
        let len = match opcode {
            op::BINBYTES => self.length::<4>()?,
            op::SHORT_BINBYTES => self.length::<1>()?,
            _ => self.length::<8>()?,
        };
        if self.input.spans && len >= SPAN_BYTES {
            let at = self.input.at;
            self.input.pass(len)?;
            return self.push(Node::Span { at, len });
        }
        let bytes = self.input.bytes(len)?;
        self.push(Node::Bytes(bytes.into()))
    }

    fn memo_index(&mut self) -> Result<u64> {
        match self.text_line()?.trim().parse() {
            Ok(index) => Ok(index),
            Err(_) => Err(self.refuse("expected the number of a memo; the file is damaged")),
        }
    }

    fn get(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            op::GET => self.memo_index()?,
            op::BINGET => self.length::<1>()?,
            _ => self.length::<4>()?,
        };
        let Some(id) = self.memo.get(&index) else {
            return Err(
                self.refuse(format!("memo {index} is read before it is written; the file is damaged"))
            );
        };
        self.stack.push(*id);
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Result<()> {
        let index = match opcode {
            op::PUT => self.memo_index()?,
            op::BINPUT => self.length::<1>()?,
            op::LONG_BINPUT => self.length::<4>()?,
            _ => self.memo.len() as u64,
        };
        let top = self.pop()?;
        self.stack.push(top);
        self.memo.insert(index, top);
        Ok(())
    }

    fn shuffle(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            op::MARK => self.marks.push(self.stack.len()),
            op::POP if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            op::POP => drop(self.pop()?),
            op::POP_MARK => drop(self.pop_mark()?),
            _ => {
                let top = self.pop()?;
                self.stack.extend([top, top]);
            }
        }
        Ok(())
    }

    fn tuple(&mut self, opcode: u8) -> Result<()> {
        let len = match opcode {
            op::EMPTY_TUPLE => 0,
            op::TUPLE1 => 1,
            op::TUPLE2 => 2,
            op::TUPLE3 => 3,
            _ => {
                let items = self.pop_mark()?;
                return self.push(Node::Tuple(items.into()));
            }
        };
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Node::Tuple(items.into()))
    }

    fn container(&mut self, opcode: u8) -> Result<()> {
        let node = match opcode {
            op::EMPTY_LIST | op::EMPTY_SET => Node::List(Vec::new()),
            op::EMPTY_DICT => Node::Dict(Vec::new()),
            op::DICT => Node::Dict(self.pop_pairs()?),
            _ => Node::List(self.pop_mark()?),
        };
        self.push(node)
    }

    fn pop_pairs(&mut self) -> Result<Vec<(Id, Id)>> {
        let items = self.pop_mark()?;
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.refuse("a key without a value; the file is damaged"));
        };
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn append(&mut self, opcode: u8) -> Result<()> {
        let items = if opcode == op::APPEND { vec![self.pop()?] } else { self.pop_mark()? };
        let target = self.pop()?;
        self.stack.push(target);
        match self.tree.node_mut(target) {
            Some(Node::List(list)) => list.extend(items),
            Some(Node::Instance(instance)) => instance.items.extend(items),
            _ => return Err(self.mismatch("a list", target)),
        }
        Ok(())
    }

    fn set_items(&mut self, opcode: u8) -> Result<()> {
        let pairs = if opcode == op::SETITEM {
            let value = self.pop()?;
            vec![(self.pop()?, value)]
        } else {
            self.pop_pairs()?
        };
        let target = self.pop()?;
        self.stack.push(target);
        match self.tree.node_mut(target) {
            Some(Node::Dict(dict)) => dict.extend(pairs),
            Some(Node::Instance(instance)) => instance.pairs.extend(pairs),
            _ => return Err(self.mismatch("a dict", target)),
        }
        Ok(())
    }

    fn mismatch(&self, expected: &str, found: Id) -> Error {
        self.refuse(format!("expected {expected}, found {}; the file is damaged", self.tree.kind(found)))
    }

    fn global(&mut self, opcode: u8) -> Result<()> {
        let (module, name) = if opcode == op::GLOBAL {
            (self.text_line()?, self.text_line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.tree.text(module), self.tree.text(name)) {
                (Some(m), Some(n)) if m.len() + n.len() <= MAX_NAME_BYTES => (m.to_owned(), n.to_owned()),
                _ => return Err(self.mismatch("the name of a class", name)),
            }
        };
        let module = callables::canonical_module(&module);
        self.push(Node::Global(Box::new(Global { module: module.into(), name: name.into() })))
    }

    fn object(&mut self, opcode: u8) -> Result<()> {
        if opcode == op::BUILD {
            return self.build();
        }
        if opcode == op::NEWOBJ_EX {
            // Keyword arguments of `__new__` hold nothing that a dialect reads.
            self.pop()?;
        }
        let (args, class) = (self.pop()?, self.pop()?);
        let id = self.instance(class, args)?;
        self.stack.push(id);
        Ok(())
    }

    fn instance(&mut self, class: Id, args: Id) -> Result<Id> {
        let Node::Global(_) = self.tree.node(class) else {
            return Err(self.mismatch("a class", class));
        };
        let instance = Instance { class, args, state: None, items: Vec::new(), pairs: Vec::new() };
        self.add(Node::Instance(Box::new(instance)))
    }

    fn build(&mut self) -> Result<()> {
        let (state, target) = (self.pop()?, self.pop()?);
        self.stack.push(target);
        match self.tree.node_mut(target) {
            Some(Node::Instance(instance)) => instance.state = Some(state),
            // Attributes of a dict or a list, such as the `_metadata` of a state dict, change no item.
            Some(Node::Dict(_) | Node::List(_)) => (),
            _ => return Err(self.mismatch("an object", target)),
        }
        if is_joblib_array(&self.tree, target) { self.joblib_array(target, state) } else { Ok(()) }
    }

    /// Reads the array that joblib writes right behind the object which stands for it, and puts it in that object's place.
    fn joblib_array(&mut self, target: Id, state: Id) -> Result<()> {
        let state = self.tree.dict(state).unwrap_or_default();
        let part = |name| self.tree.get(state, name);
        let (Some(shape), Some(order), Some(dtype)) = (part("shape"), part("order"), part("dtype")) else {
            return Err(
                self.refuse("expected shape, order and dtype of an array of joblib; the file is damaged")
            );
        };
        let is_aligned = part("numpy_array_alignment_bytes").is_some_and(|id| id != NONE);
        let array = match array_bytes(&self.tree, shape, dtype).map_err(|problem| self.refuse(problem))? {
            ArrayBytes::Objects => {
                let root = self.nested()?;
                self.tree.node(root).clone()
            }
            ArrayBytes::Plain(len) => {
                let padding = if is_aligned { self.length::<1>()? } else { 0 };
                self.input.bytes(padding)?;
                let bytes = Node::Bytes(self.input.bytes(len)?.into());
                let data = self.add(bytes)?;
                self.frombuffer(data, dtype, shape, order)?
            }
        };
        if let Some(node) = self.tree.node_mut(target) {
            *node = array;
        }
        Ok(())
    }

    /// The array as protocol 5 has it.
    fn frombuffer(&mut self, data: Id, dtype: Id, shape: Id, order: Id) -> Result<Node> {
        let class = Global { module: "numpy._core.numeric".into(), name: "_frombuffer".into() };
        let class = self.add(Node::Global(Box::new(class)))?;
        let args = self.add(Node::Tuple([data, dtype, shape, order].into()))?;
        let instance = Instance { class, args, state: None, items: Vec::new(), pairs: Vec::new() };
        Ok(Node::Instance(Box::new(instance)))
    }

    /// Runs the pickle of an array of objects, which has a stack and a memo of its own.
    fn nested(&mut self) -> Result<Id> {
        if self.is_nested {
            return Err(self.refuse("an array of joblib in another one; the file is hostile or damaged"));
        }
        let outer = (mem::take(&mut self.stack), mem::take(&mut self.marks), mem::take(&mut self.memo));
        self.is_nested = true;
        let root = self.run()?;
        (self.stack, self.marks, self.memo) = outer;
        self.is_nested = false;
        Ok(root)
    }

    fn call_opcode(&mut self, opcode: u8) -> Result<()> {
        let (callable, args) = match opcode {
            op::REDUCE => {
                let args = self.pop()?;
                (self.pop()?, args)
            }
            op::INST => {
                let args = self.pop_mark()?;
                self.global(op::GLOBAL)?;
                (self.pop()?, self.add(Node::Tuple(args.into()))?)
            }
            _ => {
                let items = self.pop_mark()?;
                let Some((class, args)) = items.split_first() else {
                    return Err(self.refuse("expected a class, found nothing; the file is damaged"));
                };
                (*class, self.add(Node::Tuple(args.into()))?)
            }
        };
        let id = self.call(callable, args)?;
        self.stack.push(id);
        Ok(())
    }

    /// What stands for the call of `callable`.
    fn call(&mut self, callable: Id, args: Id) -> Result<Id> {
        let Some(global) = self.tree.global(callable) else {
            return Err(self.mismatch("the name of a callable", callable));
        };
        let Some(effect) = callables::effect(global) else {
            return Err(self.refused_call(&global.to_string()));
        };
        let Node::Tuple(items) = self.tree.node(args) else {
            return Err(self.mismatch("a tuple of arguments", args));
        };
        match (effect, &**items) {
            (Effect::Argument, [first]) => Ok(*first),
            (Effect::Argument, []) => self.add(Node::List(Vec::new())),
            (Effect::Dict, [.., last]) => self.new_dict(*last),
            (Effect::Dict, []) => self.add(Node::Dict(Vec::new())),
            (Effect::NewObject, [class, rest @ ..]) => {
                let (class, rest) = (*class, Node::Tuple(rest.into()));
                self.charge(items_len(&rest))?;
                let args = self.add(rest)?;
                self.instance(class, args)
            }
            (Effect::Reconstruct, [class, _, value]) => {
                let (class, value) = (*class, *value);
                self.instance(class, value)
            }
            (Effect::Encode, [text, ..]) => self.encode(*text),
            (Effect::Encode, []) => self.add(Node::Bytes([].into())),
            (Effect::Member, [owner, name, ..]) => self.member(*owner, *name),
            (Effect::Data, _) => self.instance(callable, args),
            _ => Err(self.mismatch("other arguments", args)),
        }
    }

    /// `OrderedDict([(k, v), …])`, `Counter({…})` or `defaultdict(factory)`.
    fn new_dict(&mut self, argument: Id) -> Result<Id> {
        if let Node::Dict(_) = self.tree.node(argument) {
            return Ok(argument);
        }
        let Some(items) = self.tree.sequence(argument) else {
            return self.add(Node::Dict(Vec::new()));
        };
        let len = items.len() as u64;
        self.charge(len)?;
        let items = self.tree.sequence(argument).unwrap_or_default();
        let pairs = items.iter().map(|pair| match self.tree.sequence(*pair) {
            Some([key, value]) => Some((*key, *value)),
            _ => None,
        });
        let Some(pairs) = pairs.collect() else {
            return Err(self.mismatch("pairs of key and value", argument));
        };
        self.add(Node::Dict(pairs))
    }

    fn encode(&mut self, text: Id) -> Result<Id> {
        let Some(text) = self.tree.text(text) else {
            return Err(self.mismatch("text", text));
        };
        let len = text.len() as u64;
        let Some(bytes) = text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<Vec<u8>>>() else {
            return Err(self.refuse("expected Latin-1 text; the file is damaged"));
        };
        self.charge(len)?;
        self.add(Node::Bytes(bytes.into()))
    }

    /// `getattr(owner, name)`: how a function that lives in a class is pickled, and a method of an object.
    fn member(&mut self, owner: Id, name: Id) -> Result<Id> {
        let object = owner;
        let (owner, method_of) = match self.tree.node(owner) {
            Node::Instance(instance) => (instance.class, true),
            _ => (owner, false),
        };
        let (Some(class), Some(text)) = (self.tree.global(owner), self.tree.text(name)) else {
            return Err(self.mismatch("the owner of a function in `builtins.getattr`", owner));
        };
        if text.len() > MAX_NAME_BYTES || class.module.len() + class.name.len() > MAX_NAME_BYTES {
            return Err(self.refuse("a longer name than any function has; the file is hostile or damaged"));
        }
        if method_of && class.module.starts_with("sklearn.") {
            return self.bound_method(object, class.to_string(), text.to_owned());
        }
        let member = if method_of {
            Global { module: class.to_string().into(), name: text.into() }
        } else if let Some(member) = callables::member(class, text) {
            member
        } else {
            let callable = format!("builtins.getattr({class}, {text})");
            return Err(self.refused_call(&callable));
        };
        self.add(Node::Global(Box::new(member)))
    }

    /// A method of an encoder, which keeps its object: the call of the method's name with the object.
    fn bound_method(&mut self, object: Id, class: String, name: String) -> Result<Id> {
        let method = self.add(Node::Global(Box::new(Global { module: class.into(), name: name.into() })))?;
        let args = self.add(Node::Tuple([object].into()))?;
        self.instance(method, args)
    }

    fn refused_call(&self, callable: &str) -> Error {
        let problem = format!(
            "calls `{callable}`, which is not needed to rebuild tensors or encoders; nothing was executed"
        );
        self.refuse(format!(
            "{problem}. If you trust the file, load it in Python and save the model's state_dict(), or the encoder, alone"
        ))
    }

    fn charge(&mut self, copied: u64) -> Result<()> {
        self.copied = self.copied.saturating_add(copied);
        let read = self.input.at.saturating_sub(self.start);
        if self.copied > read.saturating_mul(4).saturating_add(1024) {
            return Err(self.refuse("copies far more than it holds; the file is hostile or damaged"));
        }
        Ok(())
    }

    fn persistent(&mut self, opcode: u8) -> Result<()> {
        let id = if opcode == op::PERSID {
            let text = self.text_line()?;
            self.add(Node::Text(text.into()))?
        } else {
            self.pop()?
        };
        // The old format writes a model's class together with its source code.
        if let Some([kind, class, ..]) = self.tree.sequence(id)
            && self.tree.text(*kind) == Some("module")
        {
            self.stack.push(*class);
            return Ok(());
        }
        self.push(Node::Persistent(id))
    }
}

/// Whether joblib wrote the object in the place of an array.
fn is_joblib_array(tree: &Tree, id: Id) -> bool {
    let Node::Instance(instance) = tree.node(id) else { return false };
    let class = tree.global(instance.class);
    class.is_some_and(|class| {
        class.module.ends_with("joblib.numpy_pickle") && &*class.name == "NumpyArrayWrapper"
    })
}

/// No module or class has a longer name; a pickle can name one again and again at three bytes a time.
const MAX_NAME_BYTES: usize = 1024;

fn items_len(node: &Node) -> u64 {
    match node {
        Node::Tuple(items) => items.len() as u64,
        _ => 0,
    }
}

/// Little-endian two's complement of any length.
fn long(bytes: Vec<u8>) -> Node {
    if bytes.len() > 8 {
        return Node::Long(bytes.into());
    }
    let fill = if bytes.last().is_some_and(|top| *top >= 0x80) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = from;
    }
    Node::Int(i64::from_le_bytes(wide))
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
mod tests;
