//! How far the relaxations stray.
