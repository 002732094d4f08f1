package lakehouse.connect;

/** Where objects are written to. */
@FunctionalInterface
interface Store {
    /**
     * Writes a complete object and replaces one with the same key.
     *
     * @throws Unavailable the write failed, and may succeed later
     * @throws org.apache.kafka.connect.errors.ConnectException the write fails until somebody corrects its cause
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
