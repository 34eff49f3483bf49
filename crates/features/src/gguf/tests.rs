use proptest::prelude::*;

use super::*;

/// A file in the making.
struct Bytes(Vec<u8>);

impl Bytes {
    fn head(version: u32, tensors: u64, entries: u64) -> Self {
        let mut bytes = Self(b"GGUF".to_vec());
        bytes.u32(version).u64(tensors).u64(entries);
        bytes
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len() as u64);
        self.0.extend(text.bytes());
        self
    }

    fn read(&self) -> Result<Gguf, FeatureError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, &self.0).unwrap();
        Gguf::read(&path)
    }

    fn refusal(&self) -> String {
        let message = self.read().unwrap_err().to_string();
        assert!(message.contains("model.gguf"), "{message}");
        message
    }
}

/// One of each kind of entry that models have, and one tensor.
fn whole() -> Bytes {
    let mut bytes = Bytes::head(3, 1, 7);
    bytes.text("general.architecture").u32(8).text("llama");
    bytes.text("llama.context_length").u32(4).u32(2048);
    bytes.text("llama.eps").u32(6).u32(1e-5_f32.to_bits());
    bytes.text("tokens").u32(9).u32(8).u64(2).text("a").text("bc");
    bytes.text("heads").u32(9).u32(4).u64(3).u32(4).u32(5).u32(6);
    bytes.text("scores").u32(9).u32(6).u64(2).u32(0).u32(0);
    bytes.text("template").u32(8).text(&"x".repeat(5000));
    bytes.text("token_embd.weight").u32(2).u64(8).u64(3).u32(0).u64(0);
    bytes.0.resize(bytes.0.len().next_multiple_of(32) + 96, 0);
    bytes
}

#[test]
fn metadata_and_places_are_read() {
    let bytes = whole();
    let file = bytes.read().unwrap();
    assert_eq!(file.text("general.architecture"), Some("llama"));
    assert_eq!(file.value("llama.eps"), Some(&GgufValue::Float(1e-5)));
    assert_eq!(file.value("heads"), Some(&GgufValue::Integers(vec![4, 5, 6])));
    assert!(["tokens", "scores", "template"].iter().all(|key| file.value(key).is_none()));
    assert_eq!((file.vocabulary(), file.positions()), (Some(3), Some(2048)));
    let start = bytes.0.len() as u64 - 96;
    assert_eq!(file.tensors()["token_embd.weight"], GgufTensor { shape: vec![3, 8], kind: 0, start });
}

#[test]
fn what_lies_is_refused_with_the_reason() {
    let check = |bytes: &Bytes, part: &str| {
        let message = bytes.refusal();
        assert!(message.contains(part), "`{part}` is not in: {message}");
    };
    check(&Bytes(Vec::new()), "`GGUF`");
    check(&Bytes(b"GGML and more".to_vec()), "`GGUF`");
    check(&Bytes::head(4, 0, 0), "version 4");
    check(&Bytes::head(3_u32.swap_bytes(), 0, 0), "little-endian");
    check(&Bytes::head(3, u64::MAX, 0), "18446744073709551615 tensors");
    check(&Bytes::head(3, 0, 1 << 40), "1099511627776 entries");
    check(Bytes::head(3, 0, 1).u64(u64::MAX), "a name of");
    check(Bytes::head(3, 0, 1).text("k").u32(8).u64(u64::MAX), "in the middle of its head");
    check(Bytes::head(3, 0, 1).text("k").u32(9).u32(0).u64(u64::MAX), "in the middle of its head");
    check(Bytes::head(3, 0, 1).text("k").u32(9).u32(10).u64(u64::MAX), "claims");
    check(Bytes::head(3, 0, 1).text("k").u32(9).u32(8).u64(u64::MAX), "in the middle of its head");
    check(Bytes::head(3, 0, 1).text("k").u32(9).u32(9).u64(1), "not known");
    check(Bytes::head(3, 0, 1).text("k").u32(77), "not known");
    for alignment in [0, u32::MAX] {
        check(Bytes::head(3, 0, 1).text("general.alignment").u32(4).u32(alignment), "general.alignment");
    }
    check(Bytes::head(3, 0, 2).text("k").u32(4).u32(1).text("k").u32(4).u32(1), "twice");
    check(Bytes::head(3, 1, 0).text("t").u32(5), "5 dimensions");
    for offset in [1000, u64::MAX] {
        check(Bytes::head(3, 1, 0).text("t").u32(1).u64(1).u32(0).u64(offset), "behind the end");
    }
}

#[test]
fn a_file_that_is_cut_anywhere_in_its_head_is_refused() {
    let whole = whole().0;
    for end in 0..whole.len() - 96 - 32 {
        assert!(Bytes(whole[..end].to_vec()).read().is_err(), "{end}");
    }
}

proptest! {
    #[test]
    fn changed_bytes_are_no_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = whole();
        let length = bytes.0.len();
        for (place, byte) in changes {
            bytes.0[place.index(length)] = byte;
        }
        if let Ok(file) = bytes.read() {
            prop_assert!(file.tensors().values().all(|tensor| tensor.start <= length as u64));
        }
    }
}
