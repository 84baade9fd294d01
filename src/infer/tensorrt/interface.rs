//! Calling C++ objects of TensorRT through their virtual tables.
//!
//! `unsafe`: this is the C++ ABI by hand. The slots come from `layout.rs`, which says where they are from.
#![allow(unsafe_code)]

use super::layout::DimsWidth;
use std::ffi::c_void;
use std::ptr::NonNull;

/// Most dimensions a shape can have.
const MAX_DIMS: usize = 8;

/// Nothing is mapped below. Without a driver TensorRT's lean runtimes answer not null but null moved to a member.
const FIRST_ADDRESS: usize = 4096;

/// A virtual table: functions of many types.
type Table = *const *const c_void;

/// A public object of TensorRT: its own virtual table (complete destructor, destructor that frees), then
/// `mImpl`.
#[repr(C)]
struct Object {
    table: Table,
    implementation: Implementation,
}

/// The object behind `mImpl`, which begins with the pointer to its table.
pub(super) type Implementation = *mut Table;

/// Slot of the destructor that also frees, in every class with a virtual destructor declared first.
const DELETE: usize = 1;

/// A public object of which somebody else sees to the end.
#[derive(Clone, Copy)]
pub(super) struct Borrowed(NonNull<Object>);

/// A public object that is ours to delete.
pub(super) struct Owned(Borrowed);

impl Borrowed {
    /// What a function answered; `None` for null.
    ///
    /// # Safety
    /// `object` is null or a public object of TensorRT that outlives this.
    pub(super) unsafe fn new(object: *mut c_void) -> Option<Borrowed> {
        let object = NonNull::new(object.cast::<Object>()).filter(is_mapped)?;
        // SAFETY: the caller says that it is such an object.
        let complete =
            unsafe { !object.as_ref().table.is_null() && !object.as_ref().implementation.is_null() };
        complete.then_some(Borrowed(object))
    }

    /// The object, for functions that take a reference to it.
    pub(super) fn as_pointer(self) -> *mut c_void {
        self.0.as_ptr().cast()
    }

    /// What to hand to a function of the implementation, and where that function is. `F` is an `extern "C"`
    /// function whose first argument is the implementation.
    ///
    /// # Safety
    /// `slot` holds a function of type `F` in the version of TensorRT that made the object.
    pub(super) unsafe fn function<F: Copy>(self, slot: usize) -> (Implementation, F) {
        // SAFETY: `new` saw that neither pointer is null; the rest is the caller's promise.
        unsafe {
            let implementation = self.0.as_ref().implementation;
            (implementation, entry(*implementation, slot))
        }
    }
}

/// Whether it can be an object's address at all.
fn is_mapped<T>(object: &NonNull<T>) -> bool {
    object.addr().get() >= FIRST_ADDRESS
}

/// The function of type `F` at that position of a table.
///
/// # Safety
/// There is one.
unsafe fn entry<F: Copy>(table: Table, slot: usize) -> F {
    const { assert!(size_of::<F>() == size_of::<*const c_void>()) };
    // SAFETY: as the caller says; a function pointer has the size of a pointer.
    unsafe { std::mem::transmute_copy::<*const c_void, F>(&*table.add(slot)) }
}

/// An object without an implementation behind it, as the parser's are: its own table holds the functions.
#[derive(Clone, Copy)]
pub(super) struct Plain(NonNull<Table>);

impl Plain {
    /// What a function answered; `None` for null.
    ///
    /// # Safety
    /// `object` is null or such an object, and outlives this.
    pub(super) unsafe fn new(object: *mut c_void) -> Option<Plain> {
        let object = NonNull::new(object.cast::<Table>()).filter(is_mapped)?;
        // SAFETY: the caller says that it is such an object.
        let complete = unsafe { !object.as_ref().is_null() };
        complete.then_some(Plain(object))
    }

    /// The object, and its function at `slot`, whose first argument is the object.
    ///
    /// # Safety
    /// `slot` holds a function of type `F`.
    pub(super) unsafe fn function<F: Copy>(self, slot: usize) -> (*mut c_void, F) {
        // SAFETY: `new` saw that there is a table; the rest is the caller's promise.
        unsafe { (self.0.as_ptr().cast(), entry(*self.0.as_ref(), slot)) }
    }
}

impl Owned {
    /// Takes over what a `create…` function answered; `None` for null.
    ///
    /// # Safety
    /// `object` is null or a public object of TensorRT that nobody else deletes.
    pub(super) unsafe fn new(object: *mut c_void) -> Option<Owned> {
        // SAFETY: as the caller says. One without a table cannot be deleted either.
        unsafe { Borrowed::new(object) }.map(Owned)
    }

    /// The object, for functions that take a reference to it.
    pub(super) fn as_pointer(&self) -> *mut c_void {
        self.0.as_pointer()
    }

    /// As [`Borrowed::function`].
    ///
    /// # Safety
    /// As there.
    pub(super) unsafe fn function<F: Copy>(&self, slot: usize) -> (Implementation, F) {
        // SAFETY: the caller's promise.
        unsafe { self.0.function(slot) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the public classes declare a virtual destructor first, so slot 1 of their own table
        // deletes; nobody uses the object after this.
        unsafe {
            let delete: unsafe extern "C" fn(*mut c_void) = entry(self.0.0.as_ref().table, DELETE);
            delete(self.as_pointer());
        }
    }
}

/// `Dims` of TensorRT 8.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct NarrowDims {
    count: i32,
    sizes: [i32; MAX_DIMS],
}

/// `Dims` of TensorRT 10 and 11.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct WideDims {
    count: i32,
    sizes: [i64; MAX_DIMS],
}

/// A shape in the form of one version, behind a pointer.
pub(super) enum Dims {
    Narrow(NarrowDims),
    Wide(WideDims),
}

impl Dims {
    /// `None` when it has too many dimensions or too large ones.
    pub(super) fn new(width: DimsWidth, shape: &[i64]) -> Option<Dims> {
        if shape.len() > MAX_DIMS {
            return None;
        }
        let count = i32::try_from(shape.len()).ok()?;
        match width {
            DimsWidth::Wide => {
                let mut sizes = [0; MAX_DIMS];
                sizes.iter_mut().zip(shape).for_each(|(to, from)| *to = *from);
                Some(Dims::Wide(WideDims { count, sizes }))
            }
            DimsWidth::Narrow => {
                let mut sizes = [0; MAX_DIMS];
                for (to, from) in sizes.iter_mut().zip(shape) {
                    *to = i32::try_from(*from).ok()?;
                }
                Some(Dims::Narrow(NarrowDims { count, sizes }))
            }
        }
    }

    /// For a function that takes `Dims const&`.
    pub(super) fn as_pointer(&self) -> *const c_void {
        match self {
            Dims::Narrow(dims) => (&raw const *dims).cast(),
            Dims::Wide(dims) => (&raw const *dims).cast(),
        }
    }
}

impl NarrowDims {
    /// The shape; `None` when the library says that there is none (a count of -1).
    pub(super) fn shape(&self) -> Option<Vec<i64>> {
        let count = usize::try_from(self.count).ok()?;
        Some(self.sizes.get(..count)?.iter().map(|size| i64::from(*size)).collect())
    }
}

impl WideDims {
    /// As [`NarrowDims::shape`].
    pub(super) fn shape(&self) -> Option<Vec<i64>> {
        let count = usize::try_from(self.count).ok()?;
        Some(self.sizes.get(..count)?.to_vec())
    }
}
