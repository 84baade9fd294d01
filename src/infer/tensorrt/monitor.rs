//! TensorRT's `IProgressMonitor`: how far a build is.
//!
//! A build has phases, which may have phases of their own, each with a number of steps. What the library says
//! becomes one number from 0 to 1 that never falls.
//!
//! `unsafe`: the library calls us through a virtual table of our own making, with C strings.
#![allow(unsafe_code)]

use super::logger::{HEADER, Header, InterfaceInfo, Object, ignore, language};
use std::ffi::{CStr, c_char, c_void};
use std::sync::{Mutex, PoisonError};

/// Most phases within each other that are followed; deeper ones do not move the number anyway.
const MAX_DEPTH: usize = 8;

type Destructor = extern "C" fn(*mut c_void);

#[repr(C)]
struct Table {
    header: Header,
    language: extern "C" fn(*const c_void) -> i32,
    information: extern "C" fn(*const c_void) -> InterfaceInfo,
    destructors: [Destructor; 2],
    phase_start: extern "C" fn(*mut c_void, *const c_char, *const c_char, i32),
    step_complete: extern "C" fn(*mut c_void, *const c_char, i32) -> bool,
    phase_finish: extern "C" fn(*mut c_void, *const c_char),
}

static TABLE: Table = Table {
    header: HEADER,
    language,
    information,
    destructors: [ignore; 2],
    phase_start,
    step_complete,
    phase_finish,
};

// An object points behind the header of its table.
static MONITOR: Object<extern "C" fn(*const c_void) -> i32> = Object(&raw const TABLE.language);

/// The builds of this process: there is one at a time.
static PHASES: Mutex<Phases> = Mutex::new(Phases::NEW);

/// The monitor to hand to the library; it lives as long as the process. `told` is called whenever the build
/// has come further, with a number from 0 to 1.
pub(super) fn object(told: fn(f32)) -> *mut c_void {
    *lock() = Phases { told: Some(told), ..Phases::NEW };
    // The library never writes to it: it has no members.
    (&raw const MONITOR).cast_mut().cast()
}

fn lock() -> std::sync::MutexGuard<'static, Phases> {
    PHASES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One phase that is not over.
#[derive(Debug)]
struct Phase {
    name: String,
    done: u32,
    steps: u32,
}

struct Phases {
    /// Phases that have begun and not ended, the outermost first.
    open: Vec<Phase>,
    /// What was told last.
    reached: f32,
    told: Option<fn(f32)>,
}

impl Phases {
    const NEW: Phases = Phases { open: Vec::new(), reached: 0.0, told: None };

    fn begin(&mut self, name: String, steps: i32) {
        if self.open.len() < MAX_DEPTH {
            self.open.push(Phase { name, done: 0, steps: u32::try_from(steps).unwrap_or_default().max(1) });
        }
    }

    fn step(&mut self, name: &str) {
        if let Some(phase) = self.open.iter_mut().rfind(|phase| phase.name == name) {
            phase.done = phase.done.saturating_add(1).min(phase.steps);
        }
        self.tell();
    }

    fn finish(&mut self, name: &str) {
        if let Some(place) = self.open.iter().rposition(|phase| phase.name == name) {
            self.open.truncate(place);
        }
    }

    /// How much is done: of the outermost phase, and of the step of it that the next one is.
    fn fraction(&self) -> f32 {
        let (mut fraction, mut share) = (0.0, 1.0);
        for phase in &self.open {
            share /= phase.steps as f32;
            fraction += phase.done as f32 * share;
        }
        fraction.min(1.0)
    }

    fn tell(&mut self) {
        /// Smaller steps are not worth a line.
        const STEP: f32 = 0.01;
        let now = self.fraction();
        if now >= self.reached + STEP {
            self.reached = now;
            if let Some(told) = self.told {
                told(now);
            }
        }
    }
}

/// The name of a phase, which the library may leave out.
///
/// # Safety
/// `name` is null or a terminated string.
unsafe fn text(name: *const c_char) -> String {
    if name.is_null() {
        return String::new();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

extern "C" fn phase_start(_this: *mut c_void, name: *const c_char, _parent: *const c_char, steps: i32) {
    // SAFETY: the interface says that it is a terminated string which lives for the call.
    let name = unsafe { text(name) };
    lock().begin(name, steps);
}

/// Whether to go on: a build is stopped by ending its process.
extern "C" fn step_complete(_this: *mut c_void, name: *const c_char, _step: i32) -> bool {
    // SAFETY: as above.
    let name = unsafe { text(name) };
    lock().step(&name);
    true
}

extern "C" fn phase_finish(_this: *mut c_void, name: *const c_char) {
    // SAFETY: as above.
    let name = unsafe { text(name) };
    lock().finish(&name);
}

extern "C" fn information(_this: *const c_void) -> InterfaceInfo {
    InterfaceInfo { kind: c"IProgressMonitor".as_ptr(), major: 1, minor: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_within_phases_become_a_number_that_never_falls() {
        let mut phases = Phases { reached: 0.0, ..Phases::NEW };
        let mut seen = Vec::new();
        phases.begin("build".into(), 4);
        for _ in 0..2 {
            phases.begin("kernels".into(), 2);
            for _ in 0..2 {
                phases.step("kernels");
                seen.push(phases.reached);
            }
            phases.finish("kernels");
            phases.step("build");
            seen.push(phases.reached);
        }
        assert_eq!(seen, [0.125, 0.25, 0.25, 0.375, 0.5, 0.5]);
        // Words that no phase was begun for, and counts that make no sense.
        phases.step("unknown");
        phases.begin("odd".into(), -3);
        for _ in 0..MAX_DEPTH {
            phases.begin("deep".into(), 0);
        }
        phases.step("deep");
        phases.finish("unknown");
        assert!((0.5..=1.0).contains(&phases.reached), "{}", phases.reached);
    }
}
