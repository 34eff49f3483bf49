use super::*;
use proptest::prelude::*;

#[test]
fn an_empty_collection_has_no_batches() {
    let none = Tokenized::default();
    assert!(none.is_empty());
    assert!(none.batches(100).is_empty());
    assert_eq!(none.pack(&[]), Packed::default());
    assert_eq!(none.get(0), None);
}

#[test]
fn equal_lengths_keep_their_order_and_a_long_sequence_stands_alone() {
    let tokenized = Tokenized::from_sequences([&[1, 1][..], &[2, 2], &[3; 9], &[4, 4]]);
    assert_eq!(tokenized.batches(4), [vec![2], vec![0, 1], vec![3]]);
    assert_eq!(tokenized.batches(0), [vec![2], vec![0], vec![1], vec![3]]);
}

#[test]
fn appending_keeps_sequences_and_adds_truncation() {
    let mut all = Tokenized::from_sequences([[1, 2]]);
    let mut more = Tokenized::default();
    more.push(&[3], true);
    more.push(&[], false);
    all.append(&more);
    assert_eq!((all.len(), all.tokens(), all.truncated()), (3, 3, 1));
    assert_eq!((all.sequence(0), all.sequence(1), all.sequence(2)), (&[1, 2][..], &[3][..], &[][..]));
}

fn sequences() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(any::<u32>(), 0..12), 0..40)
}

proptest! {
    #[test]
    fn every_sequence_is_in_one_batch_within_the_budget(sequences in sequences(), budget in 0usize..40) {
        let tokenized = Tokenized::from_sequences(&sequences);
        let batches = tokenized.batches(budget);
        let mut seen: Vec<u32> = batches.iter().flatten().copied().collect();
        let lengths: Vec<usize> = seen.iter().map(|&index| sequences[index as usize].len()).collect();
        prop_assert!(lengths.is_sorted_by(|a, b| a >= b));
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..sequences.len() as u32).collect::<Vec<_>>());
        for batch in &batches {
            prop_assert!(!batch.is_empty());
            prop_assert!(batch.len() == 1 || tokenized.pack(batch).tokens() <= budget);
        }
        for pair in batches.windows(2) {
            let together = tokenized.pack(&pair[0]).tokens() + tokenized.length(pair[1][0] as usize);
            prop_assert!(together > budget, "a batch was closed although the next sequence fitted");
        }
    }

    #[test]
    fn packing_keeps_every_token_in_place(sequences in sequences(), picks in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let tokenized = Tokenized::from_sequences(&sequences);
        let which: Vec<u32> = if sequences.is_empty() { vec![] } else {
            picks.iter().map(|pick| pick.index(sequences.len()) as u32).collect()
        };
        let packed = tokenized.pack(&which);
        prop_assert_eq!(packed.len(), which.len());
        prop_assert_eq!(packed.offsets.first(), Some(&0));
        prop_assert_eq!(packed.offsets.last().copied(), Some(packed.tokens() as u32));
        prop_assert_eq!(packed.positions.len(), packed.tokens());
        for (place, &index) in which.iter().enumerate() {
            let range = packed.offsets[place] as usize..packed.offsets[place + 1] as usize;
            prop_assert_eq!(&packed.ids[range.clone()], &sequences[index as usize][..]);
            prop_assert!(packed.positions[range].iter().copied().eq(0..sequences[index as usize].len() as u32));
        }
    }
}
