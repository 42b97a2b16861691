//! What the repository says about itself: links lead somewhere, what is named exists, and files keep to the style.
//!
//! | file | what it checks |
//! |---|---|
//! | `files` | (the files of the repository) |
//! | `links` | links between files and headings |
//! | `names` | tests that the guarantees name, and metrics that the pages and the dashboard name |
//! | `pages` | each page is compiled as a doctest and can be found; each example is built |
//! | `style` | words, lengths of files, the changelog |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod files;
mod links;
mod names;
mod pages;
mod style;
