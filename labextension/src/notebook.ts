/** The notebook that shows a control room. */

import { KernelSpec, ServiceManager } from '@jupyterlab/services';

const CELL = `from ucxnb import UcxWorker
from ucxnb.widgets import ControlRoom

worker = UcxWorker()
room = ControlRoom(worker)
room`;

/**
 * Write a new notebook into a folder and return its path.
 *
 * Throws an Error with words for the user if no Python kernel is installed, or the folder cannot
 * be written to.
 */
export async function writeNotebook(
  services: ServiceManager.IManager,
  folder: string
): Promise<string> {
  await services.kernelspecs.ready;
  const kernel = pythonKernel(services.kernelspecs.specs);
  const { path } = await services.contents.newUntitled({ path: folder, type: 'notebook' });
  await services.contents.save(path, {
    type: 'notebook',
    format: 'json',
    content: {
      cells: [
        {
          cell_type: 'code',
          id: 'control-room',
          metadata: {},
          source: CELL,
          execution_count: null,
          outputs: []
        }
      ],
      metadata: {
        kernelspec: {
          name: kernel.name,
          display_name: kernel.display_name,
          language: kernel.language
        }
      },
      nbformat: 4,
      nbformat_minor: 5
    }
  });
  return path;
}

/** The default kernel if it speaks Python, else the first that does. */
function pythonKernel(specs: KernelSpec.ISpecModels | null): KernelSpec.ISpecModel {
  const all = Object.values(specs?.kernelspecs ?? {});
  const preferred = specs?.kernelspecs[specs.default];
  const found = [preferred, ...all].find(spec => spec?.language.toLowerCase() === 'python');
  if (!found) {
    throw new Error(
      'No Python kernel is installed beside this server: pip install ipykernel, and reload the page.'
    );
  }
  return found;
}
