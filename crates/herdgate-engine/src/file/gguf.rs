//! Reads the header of a GGUF file: metadata and the list of tensors, checked against the file's length.
//!
//! llama.cpp answers a damaged file with "null result" and no reason; this reader comes first and names the reason. It
//! must never trust a length or count that the file states: each one is checked against the bytes that are left.
//! Format: GGUF versions 2 and 3, little-endian.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// More metadata or dimensions than any real file has; a larger number means damage.
const MOST_KEYS: u64 = 1 << 16;
const MOST_TENSORS: u64 = 1 << 17;
const MOST_DIMENSIONS: u32 = 8;
const LONGEST_KEY: u64 = 1 << 16;
const LONGEST_TEXT: u64 = 64 << 20;
/// Longer lists (vocabularies) are walked over, not kept.
const LONGEST_KEPT_LIST: u64 = 1024;
const DEEPEST_LIST: u8 = 2;

/// What is wrong with a file. The text names the place in bytes where there is one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    /// The operating system refuses the file.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Not a GGUF file.
    #[error("is not a GGUF file: it begins with {0:02x?} instead of \"GGUF\"")]
    Magic([u8; 4]),
    /// A version this reader does not know.
    #[error("has GGUF version {0}; versions 2 and 3 can be read{hint}", hint = if *.0 > 0xffff { " (a big-endian file?)" } else { "" })]
    Version(u32),
    /// The file ends too early.
    #[error("is truncated: {what} needs {needs} bytes at byte {at}, the file ends at byte {length}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Where it starts.
        at: u64,
        /// How long it is.
        needs: u64,
        /// Where the file ends.
        length: u64,
    },
    /// Something that no writer would write.
    #[error("is damaged at byte {at}: {what}")]
    Damaged {
        /// Where.
        at: u64,
        /// What was found.
        what: String,
    },
    /// A key without which no model can be used.
    #[error("has no \"{0}\": it is not a model file, or damaged")]
    Missing(String),
    /// The architecture that the file names is not the one that its metadata describes.
    #[error("is of the architecture \"{named}\", but does not describe it: there is no \"{named}.{key}\"")]
    Undescribed {
        /// What it says it is.
        named: String,
        /// What every architecture has.
        key: &'static str,
    },
}

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// All unsigned types.
    Unsigned(u64),
    /// All signed types.
    Signed(i64),
    /// f32, with its own number of digits.
    Single(f32),
    /// f64.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// Text; bytes that are not UTF-8 are replaced.
    Text(String),
    /// A short list.
    List(Vec<Value>),
    /// A list that is too long to keep.
    LongList,
}

impl Value {
    /// As a number that cannot be negative.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Unsigned(n) => Some(*n),
            Value::Signed(n) => u64::try_from(*n).ok(),
            // Per-layer numbers: the largest one bounds what is needed.
            Value::List(all) => all.iter().filter_map(Value::as_u64).max(),
            Value::Single(_) | Value::Double(_) | Value::Bool(_) | Value::Text(_) | Value::LongList => None,
        }
    }
}

/// One tensor of the file.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    /// Its name.
    pub(crate) name: String,
    /// Its dimensions.
    pub(crate) shape: Vec<u64>,
    /// ggml's number for its type.
    pub(crate) kind: u32,
}

/// A checked header.
#[derive(Debug)]
pub(crate) struct Header {
    /// Metadata, sorted by key.
    pub(crate) metadata: BTreeMap<String, Value>,
    /// All tensors, in the file's order.
    pub(crate) tensors: Vec<Tensor>,
    /// Length of the whole file in bytes.
    pub(crate) length: u64,
    /// Length of the header in bytes.
    pub(crate) header_length: u64,
}

impl Header {
    /// Reads and checks the header of `path`.
    ///
    /// # Errors
    /// [`HeaderError`], without the path: the caller says which file.
    pub(crate) fn read(path: &Path) -> Result<Header, HeaderError> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(HeaderError::Io(std::io::Error::other("it is not a regular file")));
        }
        Reader { input: BufReader::with_capacity(1 << 16, file), at: 0, length: about.len() }.header()
    }

    /// The number stored under `key`.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.metadata.get(key).and_then(Value::as_u64)
    }

    /// The text stored under `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let Value::Text(text) = self.metadata.get(key)? else { return None };
        Some(text)
    }

    /// The real number stored under `key`.
    pub(crate) fn real(&self, key: &str) -> Option<f32> {
        let Value::Single(number) = self.metadata.get(key)? else { return None };
        Some(*number)
    }
}

struct Reader<R> {
    input: R,
    at: u64,
    length: u64,
}

impl<R: Read> Reader<R> {
    fn header(mut self) -> Result<Header, HeaderError> {
        let magic: [u8; 4] = self.array("the magic number")?;
        if &magic != b"GGUF" {
            return Err(HeaderError::Magic(magic));
        }
        let version = self.u32("the version")?;
        if !(2..=3).contains(&version) {
            return Err(HeaderError::Version(version));
        }
        let tensor_count = self.count("tensors", MOST_TENSORS)?;
        let key_count = self.count("metadata keys", MOST_KEYS)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..key_count {
            let at = self.at;
            let key = self.text("a metadata key", LONGEST_KEY)?;
            let kind = self.u32("a metadata type")?;
            let value = self.value(kind, 0)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(HeaderError::Damaged { at, what: format!("the key \"{key}\" appears twice") });
            }
        }
        let mut tensors = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..tensor_count {
            let (tensor, end) = self.tensor()?;
            tensors.push(tensor);
            ends.push(end);
        }
        let header_length = self.at;
        let header = Header { metadata, tensors, length: self.length, header_length };
        check_data(&header, &ends)?;
        Ok(header)
    }

    fn tensor(&mut self) -> Result<(Tensor, Option<u64>), HeaderError> {
        let name = self.text("a tensor's name", LONGEST_KEY)?;
        let at = self.at;
        let dimensions = self.u32("a tensor's dimensions")?;
        if dimensions > MOST_DIMENSIONS {
            let what = format!("tensor \"{name}\" has {dimensions} dimensions");
            return Err(HeaderError::Damaged { at, what });
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64("a tensor's shape")?);
        }
        let kind = self.u32("a tensor's type")?;
        let offset = self.u64("a tensor's offset")?;
        let too_large =
            || HeaderError::Damaged { at, what: format!("tensor \"{name}\" is impossibly large") };
        let elements = shape.iter().try_fold(1u64, |all, n| all.checked_mul(*n)).ok_or_else(too_large)?;
        let end = match layout(kind) {
            None => None,
            Some((block, bytes)) => {
                let size = elements.div_ceil(block).checked_mul(bytes).ok_or_else(too_large)?;
                Some(offset.checked_add(size).ok_or_else(too_large)?)
            }
        };
        Ok((Tensor { name, shape, kind }, end))
    }

    fn value(&mut self, kind: u32, depth: u8) -> Result<Value, HeaderError> {
        const WHAT: &str = "a metadata value";
        Ok(match kind {
            0 => Value::Unsigned(self.array::<1>(WHAT)?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.array(WHAT)?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array(WHAT)?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array(WHAT)?).into()),
            4 => Value::Unsigned(self.u32(WHAT)?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array(WHAT)?).into()),
            6 => Value::Single(f32::from_le_bytes(self.array(WHAT)?)),
            7 => Value::Bool(self.array::<1>(WHAT)?[0] != 0),
            8 => Value::Text(self.text("a metadata text", LONGEST_TEXT)?),
            9 => self.list(depth)?,
            10 => Value::Unsigned(self.u64(WHAT)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(WHAT)?)),
            12 => Value::Double(f64::from_le_bytes(self.array(WHAT)?)),
            other => {
                let what = format!("metadata of the unknown type {other}");
                return Err(HeaderError::Damaged { at: self.at, what });
            }
        })
    }

    fn list(&mut self, depth: u8) -> Result<Value, HeaderError> {
        let at = self.at;
        if depth >= DEEPEST_LIST {
            return Err(HeaderError::Damaged { at, what: "lists are nested too deeply".into() });
        }
        let kind = self.u32("a list's type")?;
        let count = self.u64("a list's length")?;
        // The smallest element has one byte, so no more elements than bytes can follow.
        if count > self.length.saturating_sub(self.at) {
            return Err(HeaderError::Truncated { what: "a list", at, needs: count, length: self.length });
        }
        let keep = count <= LONGEST_KEPT_LIST;
        let mut all = Vec::new();
        for _ in 0..count {
            let value = self.value(kind, depth + 1)?;
            if keep {
                all.push(value);
            }
        }
        Ok(if keep { Value::List(all) } else { Value::LongList })
    }

    fn count(&mut self, of: &'static str, most: u64) -> Result<u64, HeaderError> {
        let at = self.at;
        let count = self.u64("a count")?;
        if count > most {
            return Err(HeaderError::Damaged { at, what: format!("{count} {of} are impossibly many") });
        }
        Ok(count)
    }

    fn text(&mut self, what: &'static str, longest: u64) -> Result<String, HeaderError> {
        let length = self.u64(what)?;
        self.room(what, length)?;
        if length > longest {
            return Err(HeaderError::Damaged { at: self.at, what: format!("{what} of {length} bytes") });
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.input.read_exact(&mut bytes)?;
        self.at += length;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into_owned()))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, HeaderError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, HeaderError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], HeaderError> {
        self.room(what, N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn room(&self, what: &'static str, needs: u64) -> Result<(), HeaderError> {
        if needs > self.length.saturating_sub(self.at) {
            return Err(HeaderError::Truncated { what, at: self.at, needs, length: self.length });
        }
        Ok(())
    }
}

fn check_data(header: &Header, ends: &[Option<u64>]) -> Result<(), HeaderError> {
    let alignment = header.number("general.alignment").unwrap_or(32);
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        let what = format!("an alignment of {alignment}");
        return Err(HeaderError::Damaged { at: header.header_length, what });
    }
    let start = header.header_length.next_multiple_of(alignment);
    if let Some(end) = ends.iter().flatten().max() {
        let full = start.saturating_add(*end);
        if full > header.length {
            let what = "the tensors' data";
            return Err(HeaderError::Truncated { what, at: start, needs: *end, length: header.length });
        }
    }
    Ok(())
}

/// Elements and bytes of one block of ggml's type `kind`; `None` for types this table does not know.
fn layout(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 | 26 => (1, 4),
        1 | 25 | 30 => (1, 2),
        2 | 20 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        9 => (32, 36),
        10 => (256, 84),
        11 | 21 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        15 => (256, 292),
        16 | 35 => (256, 66),
        17 => (256, 74),
        18 => (256, 98),
        19 => (256, 50),
        22 => (256, 82),
        23 => (256, 136),
        24 => (1, 1),
        27 | 28 => (1, 8),
        29 => (256, 56),
        34 => (256, 54),
        39 => (32, 17),
        _ => return None,
    })
}

/// ggml's name of the type `kind`, as `/api/show` lists it.
pub(crate) fn kind_name(kind: u32) -> &'static str {
    match kind {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        8 => "Q8_0",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        30 => "BF16",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => "unknown",
    }
}

#[cfg(test)]
#[path = "gguf_tests.rs"]
mod tests;
