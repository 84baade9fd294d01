//! The little of CUDA that is needed, through its driver (`libcuda.so.1`): a C interface that has been stable
//! for years and comes with every NVIDIA driver. TensorRT uses the runtime library on top of it; both share
//! the device's primary context.
//!
//! `unsafe`: calls through function pointers of a shared library, and memory it hands out.
#![allow(unsafe_code)]

use super::library::Shared;
use super::unavailable;
use crate::error::{Error, Kind, Result};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::fmt;
use std::path::Path;
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a call of the driver answers, `CUresult`: 0 is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
struct Status(c_int);

/// Which GPU, `CUdevice`: an index from 0.
type DeviceNumber = c_int;
/// A context of the driver, `CUcontext`.
type Context = *mut c_void;
/// `CUstream`, which is also the runtime's `cudaStream_t`.
pub(super) type RawStream = *mut c_void;
/// `CUdeviceptr`: an address on the device.
pub(super) type Address = u64;

/// The one GPU that is used. `CUDA_VISIBLE_DEVICES` chooses another.
const DEVICE: DeviceNumber = 0;
/// `CU_CTX_SCHED_BLOCKING_SYNC`: a thread that waits for the GPU sleeps. By default it spins, which costs a
/// core.
const SCHED_BLOCKING_SYNC: c_uint = 4;
/// `CU_STREAM_NON_BLOCKING`: does not wait for what others put on the default stream.
const STREAM_NON_BLOCKING: c_uint = 1;
/// Bytes for the name of a GPU; longer ones are cut by the driver.
const MAX_NAME_BYTES: usize = 256;

/// The functions, and the symbols they go by (`_v2` are those of 64-bit addresses, since CUDA 3.2).
macro_rules! functions {
    ($($name:ident = $symbol:literal ($($argument:ty),*);)*) => {
        struct Functions { $($name: unsafe extern "C" fn($($argument),*) -> Status,)* }

        impl Functions {
            fn of(library: &Shared) -> Result<Functions> {
                // SAFETY: the types are those of the driver's documented interface, given once, below.
                Ok(Functions { $($name: unsafe { library.function($symbol)? },)* })
            }
        }
    };
}

functions! {
    init = "cuInit" (c_uint);
    driver_version = "cuDriverGetVersion" (*mut c_int);
    device_count = "cuDeviceGetCount" (*mut c_int);
    device_name = "cuDeviceGetName" (*mut c_char, c_int, DeviceNumber);
    device_memory = "cuDeviceTotalMem_v2" (*mut usize, DeviceNumber);
    context_flags = "cuDevicePrimaryCtxSetFlags_v2" (DeviceNumber, c_uint);
    context_retain = "cuDevicePrimaryCtxRetain" (*mut Context, DeviceNumber);
    context_release = "cuDevicePrimaryCtxRelease_v2" (DeviceNumber);
    context_set = "cuCtxSetCurrent" (Context);
    memory_info = "cuMemGetInfo_v2" (*mut usize, *mut usize);
    allocate = "cuMemAlloc_v2" (*mut Address, usize);
    free = "cuMemFree_v2" (Address);
    allocate_host = "cuMemHostAlloc" (*mut *mut c_void, usize, c_uint);
    free_host = "cuMemFreeHost" (*mut c_void);
    copy_to_device = "cuMemcpyHtoDAsync_v2" (Address, *const c_void, usize, RawStream);
    copy_to_host = "cuMemcpyDtoHAsync_v2" (*mut c_void, Address, usize, RawStream);
    stream_create = "cuStreamCreate" (*mut RawStream, c_uint);
    stream_destroy = "cuStreamDestroy_v2" (RawStream);
    stream_wait = "cuStreamSynchronize" (RawStream);
    error_name = "cuGetErrorName" (Status, *mut *const c_char);
}

/// The driver and the primary context of the first GPU.
pub(super) struct Device {
    functions: Functions,
    context: Context,
    name: String,
    memory_bytes: usize,
    driver: DriverVersion,
    /// The driver said on the way that this process will get nothing from it any more.
    is_lost: AtomicBool,
}

// SAFETY: the driver's functions may be called from any thread, and a primary context made current in
// several.
unsafe impl Send for Device {}
// SAFETY: as above; nothing in here changes after `open` but a flag that threads may share.
unsafe impl Sync for Device {}

/// The newest CUDA that the driver supports: `major * 1000 + minor * 10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DriverVersion(c_int);

impl fmt::Display for DriverVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 10)
    }
}

impl Device {
    /// Opens the driver and takes the first GPU. `folder`: where the library is, if not where the loader
    /// looks.
    pub(super) fn open(folder: Option<&Path>) -> Result<Arc<Device>> {
        let library = Shared::open(folder, &["libcuda.so.1"])?;
        let functions = Functions::of(&library)?;
        let check = |status, doing| {
            functions.check(status, doing).map_err(|error| unavailable(error.message().to_owned()))
        };
        let (mut driver, mut count, mut memory_bytes, mut context) = (0, 0, 0, null_mut());
        let mut name = [0_u8; MAX_NAME_BYTES];
        // SAFETY: every pointer is to a variable of the documented type that outlives the call, the name's
        // length is given.
        unsafe {
            check((functions.init)(0), "starting CUDA")?;
            check((functions.driver_version)(&raw mut driver), "asking for the driver's version")?;
            check((functions.device_count)(&raw mut count), "counting GPUs")?;
            if count < 1 {
                return Err(unavailable("the NVIDIA driver finds no GPU"));
            }
            // MAX_NAME_BYTES fits into a c_int.
            let length = MAX_NAME_BYTES as c_int;
            check(
                (functions.device_name)(name.as_mut_ptr().cast(), length, DEVICE),
                "asking for the GPU's name",
            )?;
            check((functions.device_memory)(&raw mut memory_bytes, DEVICE), "asking for the GPU's memory")?;
            if let Err(error) =
                check((functions.context_flags)(DEVICE, SCHED_BLOCKING_SYNC), "setting how to wait")
            {
                log::debug!("cuda waiting=spins reason=\"{}\"", error.message());
            }
            check((functions.context_retain)(&raw mut context, DEVICE), "taking the GPU's context")?;
        }
        let name = CStr::from_bytes_until_nul(&name)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let name = name.chars().filter(|c| !c.is_control()).collect();
        Ok(Arc::new(Device {
            functions,
            context,
            name,
            memory_bytes,
            driver: DriverVersion(driver),
            is_lost: AtomicBool::new(false),
        }))
    }

    /// What the driver calls it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its memory, bytes; a Jetson's GPU shares that of the board.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The newest CUDA that the driver supports.
    pub(super) fn driver(&self) -> DriverVersion {
        self.driver
    }

    /// Whether the driver has given up on this process: only a new one gets the GPU again.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// Bytes that are free right now; other processes take part.
    pub(super) fn free_bytes(&self) -> Result<usize> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both pointers are to variables of the right type.
        let status = unsafe { (self.functions.memory_info)(&raw mut free, &raw mut total) };
        self.functions.check(status, "asking for free memory")?;
        Ok(free)
    }

    /// Makes its context this thread's, as every call that follows on this thread needs (TensorRT's too).
    /// Cheap.
    pub(super) fn enter(&self) -> Result<()> {
        // SAFETY: the context is held until this is dropped.
        let status = unsafe { (self.functions.context_set)(self.context) };
        self.functions.check(status, "entering the GPU's context")
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: taken once in `open`; everything that was made in it holds this and is gone.
        let status = unsafe { (self.functions.context_release)(DEVICE) };
        log_failure(self.functions.check(status, "giving the GPU's context back"));
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Functions {
    /// The error that a status stands for, in words and with the driver's own name for it.
    fn check(&self, status: Status, doing: &str) -> Result<()> {
        if status == Status(0) {
            return Ok(());
        }
        let mut name = null();
        // SAFETY: the pointer is to a variable of the right type; it is set to a static string, or to null.
        let known = unsafe { (self.error_name)(status, &raw mut name) } == Status(0) && !name.is_null();
        // SAFETY: not null, then a terminated string in the driver's constants.
        let name = known.then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy());
        let name = name.unwrap_or_else(|| "an unknown error".into());
        Err(Error::new(Kind::Inference, format!("{doing} failed: {name} ({}){}", status.0, advice(status))))
    }
}

/// Whether it leaves the context unusable: only a new process gets another.
fn is_fatal(status: Status) -> bool {
    matches!(status.0, 700 | 702 | 710 | 714..=719)
}

/// What can be done about it, where that is known.
fn advice(status: Status) -> &'static str {
    match status.0 {
        2 => ": the GPU has no memory left",
        34 => ": this is the stub library of the CUDA toolkit, not a driver",
        46 => ": another process has the GPU for itself",
        100 => ": no NVIDIA GPU, or no access to its device files",
        214 => ": the GPU's memory has a fault",
        _ if is_fatal(status) => ": the GPU gave up on this process; restart weir",
        803 | 804 => {
            ": the driver and libcuda.so.1 are of different versions; was the driver updated without a reboot?"
        }
        _ => "",
    }
}

/// What fails while something is given back can only be told.
fn log_failure(outcome: Result<()>) {
    if let Err(error) = outcome {
        log::warn!("cuda error=\"{}\"", error.message());
    }
}

/// An order of work on the GPU: copies and runs that are put on it happen one after the other, later.
pub(super) struct Stream {
    device: Arc<Device>,
    raw: RawStream,
}

// SAFETY: the driver lets any thread use a stream; the type itself is used by one at a time (`&mut`).
unsafe impl Send for Stream {}

impl Stream {
    pub(super) fn new(device: &Arc<Device>) -> Result<Stream> {
        device.enter()?;
        let mut raw = null_mut();
        // SAFETY: the pointer is to a variable of the right type.
        let status = unsafe { (device.functions.stream_create)(&raw mut raw, STREAM_NON_BLOCKING) };
        device.functions.check(status, "creating a stream")?;
        Ok(Stream { device: device.clone(), raw })
    }

    /// The stream as TensorRT takes it, `cudaStream_t`.
    pub(super) fn raw(&mut self) -> RawStream {
        self.raw
    }

    /// Puts a copy of the first `bytes` of `from` on the stream.
    ///
    /// # Safety
    /// Neither buffer is freed, and `from` not written to, before [`Stream::wait`] has returned.
    pub(super) unsafe fn upload(
        &mut self,
        from: &PinnedBuffer,
        to: &DeviceBuffer,
        bytes: usize,
    ) -> Result<()> {
        let bytes = bytes.min(from.bytes).min(to.bytes);
        let functions = &self.device.functions;
        // SAFETY: both buffers have that many bytes; the rest is the caller's promise.
        let status =
            unsafe { (functions.copy_to_device)(to.address, from.start.as_ptr().cast(), bytes, self.raw) };
        functions.check(status, "copying to the GPU")
    }

    /// Puts a copy of the first `bytes` of `from` on the stream.
    ///
    /// # Safety
    /// Neither buffer is freed, and `to` neither read nor written, before [`Stream::wait`] has returned.
    pub(super) unsafe fn download(
        &mut self,
        from: &DeviceBuffer,
        to: &mut PinnedBuffer,
        bytes: usize,
    ) -> Result<()> {
        let bytes = bytes.min(from.bytes).min(to.bytes);
        let functions = &self.device.functions;
        // SAFETY: both buffers have that many bytes; the rest is the caller's promise.
        let status =
            unsafe { (functions.copy_to_host)(to.start.as_ptr().cast(), from.address, bytes, self.raw) };
        functions.check(status, "copying from the GPU")
    }

    /// Waits until everything on it is done.
    pub(super) fn wait(&mut self) -> Result<()> {
        // SAFETY: the stream lives.
        let status = unsafe { (self.device.functions.stream_wait)(self.raw) };
        if is_fatal(status) {
            self.device.is_lost.store(true, Ordering::Relaxed);
        }
        self.device.functions.check(status, "running on the GPU")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        log_failure(self.device.enter());
        // SAFETY: created in `new`, destroyed here. The driver lets what is still on it finish.
        let status = unsafe { (self.device.functions.stream_destroy)(self.raw) };
        log_failure(self.device.functions.check(status, "ending a stream"));
    }
}

/// Memory of the GPU.
pub(super) struct DeviceBuffer {
    device: Arc<Device>,
    address: Address,
    bytes: usize,
}

impl DeviceBuffer {
    pub(super) fn new(device: &Arc<Device>, bytes: usize) -> Result<DeviceBuffer> {
        device.enter()?;
        let mut address = 0;
        // SAFETY: the pointer is to a variable of the right type. The driver refuses 0 bytes.
        let status = unsafe { (device.functions.allocate)(&raw mut address, bytes.max(1)) };
        device.functions.check(status, "allocating memory of the GPU")?;
        Ok(DeviceBuffer { device: device.clone(), address, bytes })
    }

    /// Where it is, for TensorRT.
    pub(super) fn address(&self) -> Address {
        self.address
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        log_failure(self.device.enter());
        // SAFETY: allocated in `new`, freed here; whoever put copies or runs on a stream waited for them.
        let status = unsafe { (self.device.functions.free)(self.address) };
        log_failure(self.device.functions.check(status, "freeing memory of the GPU"));
    }
}

/// Memory of the host that never moves, so that the GPU copies from and to it by itself.
pub(super) struct PinnedBuffer {
    device: Arc<Device>,
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its memory, as a Vec does.
unsafe impl Send for PinnedBuffer {}

impl PinnedBuffer {
    /// Memory that the GPU reads and writes by itself, filled with zeroes.
    pub(super) fn new(device: &Arc<Device>, bytes: usize) -> Result<PinnedBuffer> {
        device.enter()?;
        let mut start = null_mut();
        // SAFETY: the pointer is to a variable of the right type. The driver refuses 0 bytes.
        let status = unsafe { (device.functions.allocate_host)(&raw mut start, bytes.max(1), 0) };
        device.functions.check(status, "allocating pinned memory")?;
        let start = NonNull::new(start.cast::<u8>())
            .ok_or_else(|| Error::new(Kind::Inference, "the driver handed out no pinned memory"))?;
        // SAFETY: that many bytes were just handed out.
        unsafe { start.write_bytes(0, bytes) };
        Ok(PinnedBuffer { device: device.clone(), start, bytes })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        // SAFETY: initialised in `new`; while the GPU writes to it nobody may call this (`Stream::download`).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    pub(super) fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; `&mut` makes it the only view.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// Its bytes as floats: the driver aligns to pages.
    pub(super) fn as_floats(&self) -> &[f32] {
        // SAFETY: any four bytes are a float.
        let (_, floats, _) = unsafe { self.as_bytes().align_to::<f32>() };
        floats
    }

    /// Its bytes as floats.
    pub(super) fn as_floats_mut(&mut self) -> &mut [f32] {
        // SAFETY: any four bytes are a float, and any float four bytes.
        let (_, floats, _) = unsafe { self.as_bytes_mut().align_to_mut::<f32>() };
        floats
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        log_failure(self.device.enter());
        // SAFETY: allocated in `new`, freed here; whoever put copies on a stream waited for them.
        let status = unsafe { (self.device.functions.free_host)(self.start.as_ptr().cast()) };
        log_failure(self.device.functions.check(status, "freeing pinned memory"));
    }
}
