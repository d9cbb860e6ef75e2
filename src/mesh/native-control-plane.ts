/** The control plane of the native core, behind the face that a mesh wants. */

import { CoreUnavailableError } from '../errors.js';
import type { StartControlPlane } from './control-plane.js';

export const startControlPlane: StartControlPlane = () =>
  Promise.reject(new CoreUnavailableError('this build of the core has no control plane'));
