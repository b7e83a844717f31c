//! Launches as one CUDA graph: a node for each kernel, an edge from each to those that read its outputs.
//!
//! To make a graph executable costs more than to launch its kernels. But its functions, grids and arguments may be set
//! anew, so one executable serves all launches that wait for each other in the same way: the cells of a stage, of other
//! stages, of later steps. A launch under way keeps what it was given, and the next one of the same executable begins
//! behind it, as all of a stream (CUDA driver API, graph management, `cuGraphExecKernelNodeSetParams`).

use std::{cell::RefCell, ptr};

use candle_core::{
    CudaDevice, Result,
    cuda_backend::cudarc::driver::sys::{
        self, CUDA_KERNEL_NODE_PARAMS_v2 as Node, CUcontext, CUgraph, CUgraphExec, CUgraphNode, CUresult,
        CUstream,
    },
};

use super::{
    functions::function,
    recording::{Dependencies, dependencies},
    slot::Launch,
};

/// Executables that are kept; a step of a search needs about ten, and each path that it samples may need others.
const MOST: usize = 128;

thread_local! {
    /// The one used last comes last.
    static KEPT: RefCell<Vec<Executable>> = const { RefCell::new(Vec::new()) };
}

/// Sends the launches as one graph. Where it fails, none of them has run.
pub(super) fn launch(device: &CudaDevice, launches: &mut [Launch]) -> Result<()> {
    let after = dependencies(launches)?;
    let functions = launches.iter().map(|launch| function(device, launch)).collect::<Result<Vec<_>>>()?;
    let mut pointers: Vec<_> = launches.iter_mut().map(Launch::pointers).collect();
    let nodes = launches.iter().zip(&functions).zip(&mut pointers).map(|((launch, function), pointers)| {
        let ((x, y, z), (tx, ty)) = (launch.grid.blocks, launch.grid.threads);
        Node {
            func: function.cu_function(),
            gridDimX: x as u32,
            gridDimY: y as u32,
            gridDimZ: z as u32,
            blockDimX: tx as u32,
            blockDimY: ty as u32,
            blockDimZ: 1,
            sharedMemBytes: 0,
            kernelParams: pointers.as_mut_ptr(),
            extra: ptr::null_mut(),
            kern: ptr::null_mut(),
            ctx: ptr::null_mut(), // the current one
        }
    });
    let nodes: Vec<Node> = nodes.collect();
    let stream = device.cuda_stream();
    let context = stream.context().cu_ctx();
    KEPT.with_borrow_mut(|kept| {
        let known = kept.iter().position(|one| one.context == context && one.after == after);
        let executable = match known.map(|at| kept.remove(at)) {
            Some(executable) => executable.set(&nodes)?,
            None => Executable::new(context, after, &nodes)?,
        };
        executable.launch(stream.cu_stream())?;
        kept.push(executable);
        if kept.len() > MOST {
            kept.remove(0);
        }
        Ok(())
    })
}

/// A graph that can run, and what may be set anew in it.
struct Executable {
    context: CUcontext,
    /// Which nodes each waits for.
    after: Dependencies,
    _graph: Graph, // whose nodes these are
    nodes: Vec<CUgraphNode>,
    executable: CUgraphExec,
}

impl Executable {
    fn new(context: CUcontext, after: Dependencies, params: &[Node]) -> Result<Self> {
        let graph = Graph::new()?;
        let mut nodes: Vec<CUgraphNode> = Vec::with_capacity(params.len());
        for (param, after) in params.iter().zip(after.each()) {
            let after: Vec<CUgraphNode> = after.iter().map(|&before| nodes[before as usize]).collect();
            let mut node = ptr::null_mut();
            // SAFETY: the graph is ours, its nodes `after` were added before, and `param` points to an argument for each
            // parameter of its function, as `stream::run_one` says; the call copies them.
            done(unsafe {
                sys::cuGraphAddKernelNode_v2(&raw mut node, graph.0, after.as_ptr(), after.len(), param)
            })?;
            nodes.push(node);
        }
        let mut executable = ptr::null_mut();
        // SAFETY: the graph is whole, and the executable is written before it is read.
        done(unsafe { sys::cuGraphInstantiateWithFlags(&raw mut executable, graph.0, 0) })?;
        Ok(Self { context, after, _graph: graph, nodes, executable })
    }

    /// Gives every node another function, grid and arguments.
    fn set(self, params: &[Node]) -> Result<Self> {
        for (&node, param) in self.nodes.iter().zip(params) {
            // SAFETY: the executable was made of the graph that has this node and still exists; functions of one context
            // may replace each other, and `param` is as in `new`.
            done(unsafe { sys::cuGraphExecKernelNodeSetParams_v2(self.executable, node, param) })?;
        }
        Ok(self)
    }

    fn launch(&self, stream: CUstream) -> Result<()> {
        // SAFETY: what the kernels read and write is allocated until the launches are dropped, behind this call, and stays
        // so until the graph has run, since frees are ordered by the same stream.
        done(unsafe { sys::cuGraphLaunch(self.executable, stream) })
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: nobody else has the executable; one under way ends before it is freed. Nothing can be done about an error.
        let _ = unsafe { sys::cuGraphExecDestroy(self.executable) };
    }
}

struct Graph(CUgraph);

impl Graph {
    fn new() -> Result<Self> {
        let mut graph = ptr::null_mut();
        // SAFETY: the graph is written before it is read.
        done(unsafe { sys::cuGraphCreate(&raw mut graph, 0) })?;
        Ok(Self(graph))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: nobody else has the graph, and executables do not need it. Nothing can be done about an error.
        let _ = unsafe { sys::cuGraphDestroy(self.0) };
    }
}

fn done(result: CUresult) -> Result<()> {
    result.result().map_err(candle_core::Error::wrap)
}
