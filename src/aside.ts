// How is what is the application's called, so that it changes nothing here?

/**
 * Calls a logger, or who listens. What that throws is the application's as well, an uncaught exception as from any listener
 * of Node, and changes nothing of what is done here.
 */
export function aside(call: () => unknown): void {
  try {
    call();
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}
