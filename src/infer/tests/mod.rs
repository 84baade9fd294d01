//! Whole models from file to detections.

mod families;
mod goldens;
