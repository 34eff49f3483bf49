//! Networks over features against PyTorch (`fixtures/make_features.py`), tables against plain sums, and what each kind can learn.

mod learning;
mod reference;
mod tables;
