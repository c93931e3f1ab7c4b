package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go/aws/credentials"
)

// vault is what the agent keeps on the machine's disk.
type vault struct {
	directory string
}

// registration is the agent's key, and which machine it was registered for: none until that was answered.
type registration struct {
	InstanceID            string `json:"instanceID"`
	Region                string `json:"region"`
	PrivateKey            string `json:"privateKey"`
	PublicKey             string `json:"publicKey"`
	PrivateKeyType        string `json:"privateKeyType"`
	PrivateKeyCreatedDate string `json:"privateKeyCreatedDate"`
}

// shared is a session as it is kept, and where it is from.
type shared struct {
	InstanceID      string
	Source          string    `json:"CredentialSource"`
	RetrievedAt     time.Time `json:"CredentialsRetrievedAt"`
	ExpiresAt       time.Time `json:"CredentialsExpiresAt"`
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
}

func newRegistration() (registration, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return registration{}, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return registration{}, err
	}
	return registration{
		PrivateKey:            base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(key)),
		PublicKey:             base64.StdEncoding.EncodeToString(public),
		PrivateKeyType:        "Rsa",
		PrivateKeyCreatedDate: time.Now().UTC().Format(time.RFC3339),
	}, nil
}

func (r registration) key() (*rsa.PrivateKey, error) {
	der, err := base64.StdEncoding.DecodeString(r.PrivateKey)
	if err != nil {
		return nil, err
	}
	return x509.ParsePKCS1PrivateKey(der)
}

// registration reads the key; false if there is none yet.
func (v vault) registration() (found registration, exists bool, err error) {
	exists, err = v.read("EC2RegistrationKey", &found)
	return found, exists, err
}

func (v vault) keep(kept registration) error { return v.write("EC2RegistrationKey", kept) }

// session reads the session that is kept; false if there is none that is still good.
func (v vault) session() (found shared, good bool) {
	exists, err := v.read("session", &found)
	return found, exists && err == nil && time.Now().Before(found.ExpiresAt)
}

// share keeps a session, also where the commands of the machine look for it.
func (v vault) share(session shared) error {
	ini := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
		session.AccessKeyID, session.SecretAccessKey, session.SessionToken)
	if err := os.WriteFile(v.credentialsFile(), []byte(ini), 0o600); err != nil {
		return err
	}
	return v.write("session", session)
}

func (v vault) credentialsFile() string { return filepath.Join(v.directory, "credentials") }

// shared are the credentials of the worker. It looks into the file again some ten minutes before their end, so that a
// session is still used when the next one has been issued long since.
func (v vault) shared(pace float64) *credentials.Credentials {
	return credentials.NewCredentials(&fileProvider{vault: v, pace: pace})
}

type fileProvider struct {
	vault vault
	pace  float64
	until time.Time
}

func (p *fileProvider) Retrieve() (credentials.Value, error) {
	found, good := p.vault.session()
	if !good {
		return credentials.Value{}, errors.New("shared credentials are already expired")
	}
	const early = 10 * time.Minute
	life := found.ExpiresAt.Sub(found.RetrievedAt)
	p.until = found.ExpiresAt
	if life > early {
		p.until = found.RetrievedAt.Add(time.Duration(float64(life-early) / p.pace))
	}
	if now := time.Now(); !p.until.After(now) {
		p.until = now.Add(time.Duration(float64(time.Minute) / p.pace))
	}
	return credentials.Value{
		AccessKeyID: found.AccessKeyID, SecretAccessKey: found.SecretAccessKey, SessionToken: found.SessionToken,
	}, nil
}

func (p *fileProvider) IsExpired() bool { return !time.Now().Before(p.until) }

func (v vault) read(name string, into any) (bool, error) {
	text, err := os.ReadFile(filepath.Join(v.directory, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(text, into)
}

func (v vault) write(name string, what any) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	path := filepath.Join(v.directory, name)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
