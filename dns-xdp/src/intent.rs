//! The admin intent that survives a restart: one small file, replaced whole.
