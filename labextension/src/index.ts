/** A tile in the launcher, an entry in the command palette and one in File > New. */

import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, showErrorMessage } from '@jupyterlab/apputils';
import { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import { ILauncher } from '@jupyterlab/launcher';
import { IMainMenu } from '@jupyterlab/mainmenu';
import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';

import { controlRoomIcon } from './icon';
import { writeNotebook } from './notebook';
import { leaveWord, takeWord } from './started';

const COMMAND = 'ucxnb:open-control-room';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'ucxnb:control-room',
  description: 'Opens a UCX control room on a new worker, in a new notebook.',
  autoStart: true,
  // Notebook 7 has no launcher, and its pages have one part or another: only the tracker is
  // everywhere that a notebook can be.
  optional: [INotebookTracker, ILauncher, ICommandPalette, IMainMenu, IDefaultFileBrowser],
  activate: (
    app: JupyterFrontEnd,
    notebooks: INotebookTracker | null,
    launcher: ILauncher | null,
    palette: ICommandPalette | null,
    menu: IMainMenu | null,
    browser: IDefaultFileBrowser | null
  ): void => {
    app.commands.addCommand(COMMAND, {
      label: 'UCX control room',
      caption: 'Drive a new UCX worker by hand and watch it live, in a new notebook',
      icon: controlRoomIcon,
      execute: async args => {
        const folder = (args.cwd as string | undefined) ?? browser?.model.path ?? '';
        try {
          const path = await writeNotebook(app.serviceManager, folder);
          leaveWord(path);
          await app.commands.execute('docmanager:open', { path, factory: 'Notebook' });
        } catch (error) {
          await showErrorMessage('The control room could not be opened', error as Error);
        }
      }
    });
    notebooks?.forEach(panel => void runIfAsked(panel));
    notebooks?.widgetAdded.connect((_, panel) => void runIfAsked(panel));
    launcher?.add({ command: COMMAND, category: 'Other', rank: 1 });
    palette?.addItem({ command: COMMAND, category: 'UCX' });
    menu?.fileMenu.newMenu.addItem({ command: COMMAND, rank: 20 });
  }
};

/** Run all cells of a notebook that this extension made, as soon as it has a kernel. */
async function runIfAsked(panel: NotebookPanel): Promise<void> {
  await panel.context.ready;
  await panel.sessionContext.ready;
  // The file list of Notebook 7 makes a panel too, never shows it, and opens a browser tab.
  if (panel.isAttached && takeWord(panel.context.path)) {
    await NotebookActions.runAll(panel.content, panel.sessionContext);
  }
}

export default plugin;
