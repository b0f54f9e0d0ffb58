//! The kernel's half as userspace sees it: load, attach, pin, adopt, publish, count. The only module that names aya.
