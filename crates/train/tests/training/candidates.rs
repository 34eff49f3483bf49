//! Rankings and negatives among some of the items, beside a computation that sorts.

use std::collections::BTreeSet;

use paretune_data::{Part, SplitStrategy};
use paretune_recommender::{Corpus, UserKind};
use paretune_train::evaluation::{Candidates, Ranking, Rows};

use crate::clicks::{self, ITEMS, USERS};

const ALL: [Candidates; 3] = [Candidates::All, Candidates::Seen, Candidates::Unseen];

fn cold_items() -> Corpus {
    let split = SplitStrategy::ColdItems { valid: 0.1, test: 0.3, seed: 4 };
    clicks::corpus(UserKind::Attention, clicks::groups(), &split)
}

/// Users take ever newer items, so that a split by time leaves some items to the test part.
fn newer() -> Corpus {
    let log = clicks::dataset(|user| (0..8).map(|at| (at * 5 + user % 5 + u32::from(user % 7 == 0)) % ITEMS).collect());
    clicks::corpus(UserKind::Attention, log, &SplitStrategy::Time { valid: 0.1, test: 0.25 })
}

/// Items with a row in a part.
fn of(corpus: &Corpus, part: Part) -> BTreeSet<u32> {
    corpus.split.rows(part).into_iter().map(|row| corpus.dataset.events.item[row as usize]).collect()
}

fn expected(candidates: Candidates, corpus: &Corpus, part: Part) -> BTreeSet<u32> {
    let seen = of(corpus, Part::Train);
    match candidates {
        Candidates::All => (0..ITEMS).collect(),
        Candidates::Seen => seen,
        Candidates::Unseen => of(corpus, part).difference(&seen).copied().collect(),
    }
}

/// NDCG and recall of a ranking that sorts the candidates of each user, and the users it could measure.
fn brute_force(corpus: &Corpus, items: &BTreeSet<u32>, scores: &[f32], k: usize) -> (f64, f64, usize) {
    let events = &corpus.dataset.events;
    let (mut ndcg, mut recall, mut users) = (0.0, 0.0, 0);
    for user in 0..USERS {
        let of = |part| -> BTreeSet<u32> {
            let rows = corpus.split.rows(part).into_iter().map(|row| row as usize);
            rows.filter(|&row| events.user[row] == user).map(|row| events.item[row]).collect()
        };
        let train = of(Part::Train);
        let relevant: BTreeSet<u32> =
            of(Part::Test).intersection(items).filter(|item| !train.contains(item)).copied().collect();
        if relevant.is_empty() {
            continue;
        }
        let mut list: Vec<u32> = items.difference(&train).copied().collect();
        list.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
        list.truncate(k);
        let gain = |place: usize| 1.0 / (place as f64 + 2.0).log2();
        let found = list.iter().enumerate().filter(|(_, item)| relevant.contains(item));
        let found: Vec<f64> = found.map(|(place, _)| gain(place)).collect();
        let ideal: f64 = (0..relevant.len().min(k)).map(gain).sum();
        ndcg += found.iter().sum::<f64>() / ideal;
        recall += found.len() as f64 / relevant.len() as f64;
        users += 1;
    }
    (ndcg / f64::from(users), recall / f64::from(users), users as usize)
}

#[test]
fn rankings_among_candidates_are_what_sorting_them_gives() {
    let scores: Vec<f32> = (0..ITEMS).map(|item| ((item * 17) % 23) as f32 * 0.5).collect();
    for corpus in [cold_items(), newer()] {
        let mut values = BTreeSet::new();
        for candidates in ALL {
            let items = expected(candidates, &corpus, Part::Test);
            assert_eq!(candidates.items(&corpus, Part::Test), items.iter().copied().collect::<Vec<_>>());
            let (ndcg, recall, users) = brute_force(&corpus, &items, &scores, 5);
            let ranking = Ranking::among(candidates, &corpus, Part::Test, usize::MAX, &[5]);
            assert_eq!(ranking.len(), users, "{candidates:?}");
            if users == 0 {
                continue;
            }
            let ranked = ranking.fixed(&scores, &[]).unwrap();
            assert!((ranked.ranking["ndcg@5"] - ndcg).abs() < 1e-9, "{candidates:?}: {:?}, not {ndcg}", ranked.ranking);
            assert!((ranked.ranking["recall@5"] - recall).abs() < 1e-9, "{candidates:?}");
            values.insert(ndcg.to_bits());
        }
        assert!(values.len() > 1, "it matters what is ranked");
    }
}

#[test]
fn a_split_by_items_holds_them_against_each_other() {
    let corpus = cold_items();
    let scores: Vec<f32> = (0..ITEMS).map(|item| item as f32).collect();
    let usual = Ranking::new(&corpus, Part::Test, usize::MAX, &[5]).fixed(&scores, &[]).unwrap();
    let unseen = Ranking::among(Candidates::Unseen, &corpus, Part::Test, usize::MAX, &[5]).fixed(&scores, &[]).unwrap();
    assert_eq!(usual.ranking, unseen.ranking);
    // Nobody has met any of them: popularity is the same for all, and says nothing.
    let counts: Vec<f32> = corpus.summary().engagement().iter().map(|count| *count as f32).collect();
    let ranking = |candidates| Ranking::among(candidates, &corpus, Part::Test, usize::MAX, &[5]);
    assert!(!ranking(Candidates::Unseen).tells_apart(&counts));
    assert!(ranking(Candidates::All).tells_apart(&counts));
}

/// Negatives come from where positives come from, and from all of it.
#[test]
fn negatives_are_candidates() {
    for corpus in [cold_items(), newer()] {
        for candidates in ALL {
            let items = expected(candidates, &corpus, Part::Test);
            let objectives = clicks::objectives();
            let draw = |seed| Rows::among(candidates, &corpus, &objectives, Part::Test, 3, usize::MAX, seed);
            let drawn = draw(1);
            let log = of(&corpus, Part::Test);
            let Ok(rows) = drawn else {
                assert!(log.is_disjoint(&items));
                let said = drawn.unwrap_err().to_string();
                assert!(said.contains("evaluation.candidates = \"all\""), "{said}");
                continue;
            };
            let (mut positives, mut negatives) = (BTreeSet::new(), BTreeSet::new());
            for ((user, item), label) in rows.users.iter().zip(&rows.items).zip(&rows.labels[0]) {
                assert!(items.contains(item), "{candidates:?}: {item}");
                match *label > 0.0 {
                    true => positives.insert(*item),
                    false => {
                        assert!(!corpus.histories.engaged_items(*user, false).contains(item));
                        negatives.insert(*item)
                    }
                };
            }
            assert_eq!(positives, log.intersection(&items).copied().collect::<BTreeSet<_>>());
            for seed in 2..40 {
                let rows = draw(seed).unwrap();
                let labelled = rows.items.iter().zip(&rows.labels[0]);
                negatives.extend(labelled.filter(|(_, label)| **label <= 0.0).map(|(item, _)| *item));
            }
            let users: BTreeSet<u32> = rows.users.iter().copied().collect();
            let engaged = |user: &u32, item: &u32| corpus.histories.engaged_items(*user, false).contains(item);
            let possible: BTreeSet<u32> =
                items.iter().copied().filter(|item| users.iter().any(|user| !engaged(user, item))).collect();
            assert_eq!(negatives, possible, "{candidates:?}: every candidate is drawn by somebody, some time");
        }
    }
}

/// The mean rank of what is looked for is the middle, and the same seed gives the same lists.
#[test]
fn chance_is_fair_and_repeats() {
    let corpus = cold_items();
    let ranking = Ranking::new(&corpus, Part::Test, usize::MAX, &[3]);
    let items = expected(Candidates::Unseen, &corpus, Part::Test).len() as f64;
    let of = |seed| ranking.random(seed, &[]).unwrap().ranking;
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    // A list of 3 of all candidates holds each of them with probability 3 / n.
    let mean = (0..40).map(|seed| of(seed)["recall@3"]).sum::<f64>() / 40.0;
    assert!((mean - 3.0 / items).abs() < 0.02, "{mean}, not {}", 3.0 / items);
}
