/** The tile's picture: two workers, and messages both ways. */

import { LabIcon } from '@jupyterlab/ui-components';

import svgstr from '../style/control-room.svg';

export const controlRoomIcon = new LabIcon({ name: 'ucxnb:control-room', svgstr });
