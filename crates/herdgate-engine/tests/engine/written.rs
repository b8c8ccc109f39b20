//! Writes GGUF files: just enough of the format for tiny models with random weights, and for damaging them.

/// A file under construction.
#[derive(Clone, Default)]
pub(crate) struct Written {
    metadata: Vec<u8>,
    keys: u64,
    tensors: Vec<(String, Vec<u64>, Vec<f32>)>,
}

impl Written {
    fn key(&mut self, key: &str, kind: u32) -> &mut Vec<u8> {
        self.keys += 1;
        text(&mut self.metadata, key);
        self.metadata.extend(kind.to_le_bytes());
        &mut self.metadata
    }

    pub(crate) fn number(&mut self, key: &str, value: u32) {
        self.key(key, 4).extend(value.to_le_bytes());
    }

    pub(crate) fn real(&mut self, key: &str, value: f32) {
        self.key(key, 6).extend(value.to_le_bytes());
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.key(key, 7).push(value.into());
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        text(self.key(key, 8), value);
    }

    pub(crate) fn texts(&mut self, key: &str, values: &[String]) {
        let out = self.key(key, 9);
        out.extend(8u32.to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| text(out, value));
    }

    pub(crate) fn numbers(&mut self, key: &str, values: &[i32]) {
        let out = self.key(key, 9);
        out.extend(5u32.to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| out.extend(value.to_le_bytes()));
    }

    pub(crate) fn reals(&mut self, key: &str, values: &[f32]) {
        let out = self.key(key, 9);
        out.extend(6u32.to_le_bytes());
        out.extend((values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| out.extend(value.to_le_bytes()));
    }

    /// Dimensions in GGUF's order: the fastest first.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[u64], values: Vec<f32>) {
        assert_eq!(shape.iter().product::<u64>(), values.len() as u64, "{name}");
        self.tensors.push((name.to_owned(), shape.to_vec(), values));
    }

    /// The whole file, version 3.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend(self.keys.to_le_bytes());
        out.extend(&self.metadata);
        let mut offset = 0u64;
        for (name, shape, values) in &self.tensors {
            text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(0u32.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + 4 * values.len() as u64).next_multiple_of(32);
        }
        for (_, _, values) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            values.iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
