//! The kernels of NVIDIA devices by their names.

use std::{cell::RefCell, collections::BTreeMap};

use candle_core::{
    CudaDevice, DType, Result,
    cuda_backend::{DeviceId, cudarc::driver::CudaFunction},
};

use super::{
    Arithmetic,
    nvidia::{module, prepare},
    slot::Launch,
};

/// Functions of a device, for maps of a type, by their names.
struct Known {
    device: DeviceId,
    maps: DType,
    functions: BTreeMap<String, CudaFunction>,
}

thread_local! {
    /// Functions that were asked for before: the driver would look for their names every time.
    static FUNCTIONS: RefCell<Vec<Known>> = const { RefCell::new(Vec::new()) };
}

/// The function of a launch; a device that was not opened here has no kernels yet.
pub(super) fn function(device: &CudaDevice, Launch { kernel, maps, .. }: &Launch) -> Result<CudaFunction> {
    FUNCTIONS.with_borrow_mut(|all| {
        let is_it = |known: &Known| known.device == device.id() && known.maps == *maps;
        let at = all.iter().position(is_it).unwrap_or_else(|| {
            all.push(Known { device: device.id(), maps: *maps, functions: BTreeMap::new() });
            all.len() - 1
        });
        let functions = &mut all[at].functions;
        if let Some(function) = functions.get(kernel) {
            return Ok(function.clone());
        }
        let function = find(device, kernel, *maps)?;
        functions.insert(kernel.clone(), function.clone());
        Ok(function)
    })
}

fn find(device: &CudaDevice, kernel: &str, maps: DType) -> Result<CudaFunction> {
    let module = module(maps);
    let function = device.get_or_load_custom_func(kernel, &module, "").or_else(|_| {
        prepare(device, maps, Arithmetic::F32, None)?;
        device.get_or_load_custom_func(kernel, &module, "")
    })?;
    Ok(CudaFunction::clone(&function))
}
