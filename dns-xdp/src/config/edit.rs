//! Changes to the text of the configuration file that keep everything else in it, comments too.
