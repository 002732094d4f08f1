package lakehouse.connect;

/** Where objects are written to. */
@FunctionalInterface
interface Store {
    /**
     * Writes an object whole, over what may be there.
     *
     * @throws Unavailable it failed, and may succeed later
     * @throws org.apache.kafka.connect.errors.ConnectException it will go on failing until somebody mends something
     */
    void put(String key, Page page);

    default void close() {}

    /** A failure that another attempt may get over. */
    final class Unavailable extends RuntimeException {
        private static final long serialVersionUID = 1;

        Unavailable(String message, Throwable cause) {
            super(message, cause);
        }
    }
}
