//! The fallback: everything that the program does not answer, over UDP and TCP.
