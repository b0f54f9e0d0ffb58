//! The file as it is written: keys, defaults, and the way from there to a [`Config`](super::Config).
